# Demo firmware: VGA text mode 3 and INT 10h. Sources: IBM VGA register description (mode 3, 720x400), 9x16 cells.

# Writes all registers of mode 3, a palette, and clears the screen. No font is loaded: text screens are read as
# characters, and a demo that shows its text needs no glyphs.
fw_init_vga:
    pushw   %es
    movw    $0x3c2, %dx                 # miscellaneous output: colour addresses, 28 MHz
    movb    $0x67, %al
    outb    %al, %dx
    movw    $(fw_vga_seq - stele_demo_fw), %si
    movw    $0x3c4, %dx
    movw    $5, %cx
    call    fw_vga_indexed
    movw    $0x3d4, %dx                 # unlock CRTC 0..7
    movw    $0x0e11, %ax
    outw    %ax, %dx
    movw    $25, %cx
    call    fw_vga_indexed
    movw    $0x3ce, %dx
    movw    $9, %cx
    call    fw_vga_indexed
    movw    $0x3da, %dx                 # attribute controller: reset its flip-flop
    inb     %dx, %al
    movw    $0x3c0, %dx
    xorb    %ah, %ah
2:  movb    %ah, %al
    outb    %al, %dx
    movb    %cs:(%si), %al
    outb    %al, %dx
    incw    %si
    incb    %ah
    cmpb    $21, %ah
    jb      2b
    movb    $0x20, %al                  # display on
    outb    %al, %dx
    call    fw_vga_palette
    call    fw_clear
    popw    %es
    ret

# CX registers by index/data pair at DX from CS:SI.
fw_vga_indexed:
    xorb    %ah, %ah
2:  pushw   %ax
    movb    %ah, %al
    movb    %cs:(%si), %ah
    incw    %si
    outw    %ax, %dx
    popw    %ax
    incb    %ah
    loop    2b
    ret

fw_vga_seq:
    .byte   0x03, 0x00, 0x03, 0x00, 0x02
fw_vga_crtc:
    .byte   0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e
    .byte   0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff
fw_vga_graphics:
    .byte   0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x00, 0xff
fw_vga_attribute:
    .byte   0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d
    .byte   0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00

# DAC entry n, bits rgbRGB of n: 2Ah for the capital (strong), 15h for the small (weak) primary.
fw_vga_palette:
    movw    $0x3c8, %dx
    xorb    %al, %al
    outb    %al, %dx
    incw    %dx
    xorb    %bl, %bl
2:  movb    $2, %cl                     # red, green, blue
3:  xorb    %al, %al
    movb    $1, %bh                     # strong primary: bit CL, weak: bit CL + 3
    shlb    %cl, %bh
    testb   %bh, %bl
    jz      4f
    addb    $0x2a, %al
4:  shlb    $3, %bh
    testb   %bh, %bl
    jz      5f
    addb    $0x15, %al
5:  outb    %al, %dx
    decb    %cl
    jns     3b
    incb    %bl
    cmpb    $64, %bl
    jb      2b
    ret

# Clears the screen and homes the cursor.
fw_clear:
    pushaw
    pushw   %ds
    pushw   %es
    cld
    movw    $0xb800, %ax
    movw    %ax, %es
    xorw    %di, %di
    movw    $2000, %cx
    movw    $0x0720, %ax
    rep stosw
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, 0x450
    call    fw_set_cursor
    popw    %es
    popw    %ds
    popaw
    ret

# INT 10h: AH = 0 set mode, 2 set cursor, 3 read cursor, 0Eh teletype, 0Fh read mode.
fw_int10:
    cld
    cmpb    $0x0e, %ah
    je      fw_teletype
    cmpb    $0x02, %ah
    je      2f
    cmpb    $0x03, %ah
    je      3f
    cmpb    $0x0f, %ah
    je      4f
    testb   %ah, %ah
    jnz     5f
    call    fw_clear
5:  iret
2:  pushw   %ds
    pushw   $0
    popw    %ds
    movw    %dx, 0x450
    call    fw_set_cursor
    popw    %ds
    iret
3:  pushw   %ds
    pushw   $0
    popw    %ds
    movw    0x450, %dx
    movw    $0x0d0e, %cx
    popw    %ds
    iret
4:  movw    $0x5003, %ax
    xorb    %bh, %bh
    iret

# AL to the screen at the cursor, and to COM1.
fw_teletype:
    pushaw
    pushw   %ds
    pushw   %es
    pushw   $0
    popw    %ds
    pushw   $0xb800
    popw    %es
    call    fw_serial_out
    movw    0x450, %dx                  # DH row, DL column
    cmpb    $13, %al
    je      2f
    cmpb    $10, %al
    je      3f
    cmpb    $8, %al
    je      4f
    cmpb    $7, %al
    je      6f
    movw    %ax, %bx
    call    fw_cell
    movb    %bl, %es:(%di)
    incb    %dl
    cmpb    $80, %dl
    jb      5f
    xorb    %dl, %dl
    jmp     3f
2:  xorb    %dl, %dl
    jmp     5f
4:  testb   %dl, %dl
    jz      5f
    decb    %dl
    jmp     5f
3:  incb    %dh
    cmpb    $25, %dh
    jb      5f
    movb    $24, %dh
    pushw   %ds                         # scroll one line
    pushw   %es
    popw    %ds
    movw    $160, %si
    xorw    %di, %di
    movw    $1920, %cx
    rep movsw
    movw    $0x0720, %ax
    movw    $80, %cx
    rep stosw
    popw    %ds
5:  movw    %dx, 0x450
    call    fw_set_cursor
6:  popw    %es
    popw    %ds
    popaw
    iret

# DI = byte offset of the cell at DH, DL.
fw_cell:
    movb    $80, %al
    mulb    %dh
    movb    %dl, %cl
    xorb    %ch, %ch
    addw    %cx, %ax
    shlw    $1, %ax
    movw    %ax, %di
    ret

# Tells the CRTC (registers 0Eh, 0Fh) where the cursor at 0:450h is.
fw_set_cursor:
    pushaw
    movw    0x450, %dx
    call    fw_cell
    movw    %di, %bx
    shrw    $1, %bx
    movw    $0x3d4, %dx
    movb    $0x0e, %al
    movb    %bh, %ah
    outw    %ax, %dx
    movb    $0x0f, %al
    movb    %bl, %ah
    outw    %ax, %dx
    popaw
    ret

# AL to COM1; waits for room, with an end.
fw_serial_out:
    pushaw
    movb    %al, %bl
    movw    $0x3fd, %dx
    movw    $0x4000, %cx
2:  inb     %dx, %al
    testb   $0x20, %al
    loopz   2b
    movb    %bl, %al
    movw    $0x3f8, %dx
    outb    %al, %dx
    popaw
    ret
