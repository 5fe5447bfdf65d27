# Demo firmware: IDE disk 0 by PIO, INT 13h, the boot loader INT 19h, keyboard INT 09h/16h, and the reset vector.
# Sources: ATA/ATAPI-4 (READ SECTORS, IDENTIFY DEVICE); Enhanced Disk Drive 3.0 (INT 13h, AH=41h 42h).

# Finds the first disk and prints what IDENTIFY says of it.
fw_find_disk:
    pushw   %es
    pushw   $0
    popw    %es
    movw    $0x1f6, %dx
    movb    $0xe0, %al
    outb    %al, %dx
    movw    $0x1f7, %dx
    inb     %dx, %al
    cmpb    $0xff, %al
    je      8f
    movb    $0xec, %al                  # IDENTIFY DEVICE
    call    fw_ide_command
    jc      8f
    movw    $0x7e00, %di
    call    fw_ide_data
    movb    $1, 0x475                   # one disk
    movw    $(fw_msg_disk - stele_demo_fw), %si
    call    fw_puts
    movw    $0x7e00 + 54, %si           # model: 20 words, high byte first
    movw    $20, %cx
    call    fw_trim
2:  lodsw
    xchgb   %al, %ah
    pushw   %ax
    movb    $0x0e, %ah
    int     $0x10
    popw    %ax
    movb    %ah, %al
    movb    $0x0e, %ah
    int     $0x10
    loop    2b
    movw    $(fw_msg_comma - stele_demo_fw), %si
    call    fw_puts
    movl    0x7e00 + 120, %eax          # words 60, 61: sectors
    call    fw_put_decimal
    movw    $(fw_msg_sectors - stele_demo_fw), %si
    call    fw_puts
8:  popw    %es
    ret
fw_msg_disk:
    .asciz  "  disk: "
fw_msg_comma:
    .asciz  ", "
fw_msg_sectors:
    .asciz  " sectors\r\n"

# CX = number of words at SI without the blanks at their end, at least 1.
fw_trim:
    movw    %si, %di
    addw    $38, %di
2:  cmpw    $0x2020, (%di)
    jne     3f
    subw    $2, %di
    decw    %cx
    cmpw    $1, %cx
    ja      2b
3:  ret

# Issues command AL and waits for its data. CF = failed.
fw_ide_command:
    movw    $0x1f7, %dx
    outb    %al, %dx
    movl    $0x400000, %ecx
2:  inb     %dx, %al
    testb   $0x80, %al                  # BSY
    jnz     3f
    testb   $0x21, %al                  # DF, ERR
    jnz     4f
    testb   $0x08, %al                  # DRQ
    jnz     5f
    testb   %al, %al
    jz      4f                          # nobody there
3:  decl    %ecx
    jnz     2b
4:  stc
    ret
5:  clc
    ret

# Reads one sector from the data port to ES:DI.
fw_ide_data:
    movw    $0x1f0, %dx
    movw    $256, %cx
    cld
    rep insw
    ret

# Reads sector EAX to ES:DI; DI moves on. CF = failed. Keeps all other registers.
fw_read_sector:
    pushal
    movl    %eax, %ebx
    movw    $0x1f2, %dx
    movb    $1, %al
    outb    %al, %dx
    movl    %ebx, %eax
    incw    %dx
    outb    %al, %dx
    shrl    $8, %eax
    incw    %dx
    outb    %al, %dx
    shrl    $8, %eax
    incw    %dx
    outb    %al, %dx
    shrl    $8, %eax
    andb    $0x0f, %al
    orb     $0xe0, %al                  # LBA, device 0
    incw    %dx
    outb    %al, %dx
    movb    $0x20, %al                  # READ SECTORS
    call    fw_ide_command
    jc      2f
    call    fw_ide_data
    popal
    addw    $512, %di
    clc
    ret
2:  popal
    stc
    ret

# INT 13h for disk 80h: AH = 0 reset, 2 read, 8 geometry (16 heads, 63 sectors), 41h check, 42h extended read.
fw_int13:
    cmpb    $0x80, %dl
    jne     8f
    cmpb    $0x42, %ah
    je      fw_read_extended
    cmpb    $0x02, %ah
    je      fw_read_chs
    cmpb    $0x41, %ah
    je      2f
    cmpb    $0x08, %ah
    je      3f
    testb   %ah, %ah
    jz      fw_iret_nc
8:  movb    $1, %ah
    jmp     fw_iret_cf
2:  movw    $0xaa55, %bx
    movw    $0x2100, %ax
    movw    $1, %cx
    jmp     fw_iret_nc
3:  movw    $0xffff, %cx                # 1024 cylinders, 63 sectors
    movw    $0x0f01, %dx                # 16 heads, one disk
    xorb    %ah, %ah
    jmp     fw_iret_nc

fw_read_extended:
    pushal
    pushw   %es
    movw    2(%si), %cx
    lesw    4(%si), %di
    movl    8(%si), %eax
fw_read_loop:
    jcxz    3f
2:  call    fw_read_sector
    jc      4f
    incl    %eax
    loop    2b
3:  popw    %es
    popal
    xorb    %ah, %ah
    jmp     fw_iret_nc
4:  popw    %es
    popal
    movb    $4, %ah
    jmp     fw_iret_cf

fw_read_chs:                            # AL sectors, CH/CL cylinder and sector, DH head, to ES:BX
    pushal
    pushw   %es
    movw    %bx, %di
    movzbl  %al, %ebp
    movb    %cl, %bl
    shrb    $6, %cl
    xchgb   %cl, %ch                    # CX = cylinder
    movzwl  %cx, %eax
    shll    $4, %eax
    movzbl  %dh, %ecx
    addl    %ecx, %eax
    imull   $63, %eax, %eax
    andl    $63, %ebx
    leal    -1(%eax,%ebx), %eax
    movw    %bp, %cx
    jmp     fw_read_loop

# INT 19h: sector 0 to 0:7C00; INT 18h if there is none.
fw_int19:
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    cmpb    $0, 0x475
    je      2f
    movl    $0, %eax
    movw    $0x7c00, %di
    call    fw_read_sector
    jc      2f
    cmpw    $0xaa55, 0x7dfe
    jne     2f
    movw    $(fw_msg_boot - stele_demo_fw), %si
    call    fw_puts
    sti
    movb    $0x80, %dl
    ljmp    $0, $0x7c00
2:  int     $0x18
fw_int18:
    movw    $(fw_msg_noboot - stele_demo_fw), %si
    call    fw_puts
    jmp     fw_stop
fw_msg_boot:
    .asciz  "  boot sector read, signature 55AA\r\n"
fw_msg_noboot:
    .asciz  "No bootable device.\r\n"

# INT 09h: a scan code (set 1) into the ring at 40:1E. Break codes and unknown keys are dropped.
fw_irq1:
    pushaw
    pushw   %ds
    xorw    %ax, %ax
    movw    %ax, %ds
    inb     $0x60, %al
    testb   $0x80, %al
    jnz     4f
    cmpb    $58, %al
    jae     4f
    movb    %al, %ah
    movzbw  %al, %bx
    movb    %cs:(fw_keymap - stele_demo_fw)(%bx), %al
    testb   %al, %al
    jz      4f
    movw    0x41c, %bx
    movw    %bx, %si
    addw    $2, %si
    cmpw    $0x3e, %si
    jb      2f
    movw    $0x1e, %si
2:  cmpw    0x41a, %si                  # full
    je      4f
    movw    %ax, 0x400(%bx)
    movw    %si, 0x41c
4:  movb    $0x20, %al
    outb    %al, $0x20
    popw    %ds
    popaw
    iret
fw_keymap:
    .byte   0, 27
    .ascii  "1234567890-="
    .byte   8, 9
    .ascii  "qwertyuiop[]"
    .byte   13, 0
    .ascii  "asdfghjkl;'`"
    .byte   0
    .ascii  "\\zxcvbnm,./"
    .byte   0, '*', 0, ' '

# INT 16h: AH = 0 wait for a key, 1 look (ZF = none).
fw_int16:
    pushw   %bx
    pushw   %ds
    pushw   $0
    popw    %ds
    cmpb    $1, %ah
    je      4f
    testb   %ah, %ah
    jnz     7f
2:  cli
    movw    0x41a, %bx
    cmpw    0x41c, %bx
    jne     3f
    sti
    hlt
    jmp     2b
3:  movw    0x400(%bx), %ax
    addw    $2, %bx
    cmpw    $0x3e, %bx
    jb      6f
    movw    $0x1e, %bx
6:  movw    %bx, 0x41a
7:  popw    %ds
    popw    %bx
    iret
4:  movw    0x41a, %bx
    cmpw    0x41c, %bx
    pushw   %bp
    movw    %sp, %bp
    je      5f
    andb    $0xbf, 10(%bp)              # ZF of the caller: bp, ds, bx, ip, cs, flags
    movw    0x400(%bx), %ax
    popw    %bp
    jmp     7b
5:  orb     $0x40, 10(%bp)
    popw    %bp
    jmp     7b

# ---------------------------------------------------------------- the last 16 bytes
    .org    0xfff0, 0xff
    .byte   0xea                        # ljmp $0xf000, $fw_entry
    .word   fw_entry - stele_demo_fw
    .word   0xf000
    .ascii  "11/22/25"
    .org    0x10000, 0xff
    .globl  stele_demo_fw_end
    .hidden stele_demo_fw_end
stele_demo_fw_end:
    .code64
    .popsection
