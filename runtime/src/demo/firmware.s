# The demo firmware: 64 KiB at F000:0000, entered at F000:FFF0 after reset. Data to the host: never run by it.
# AT&T syntax. Every address is a difference of two labels of this section, so nothing is left to the linker.
# Sources: IBM PC/AT BIOS interface (INT 10h, 13h, 15h, 16h, 19h, 1Ah); chip datasheets named at each part.

    .pushsection .rodata.stele_demo_fw,"a",@progbits
    .balign 16
    .globl  stele_demo_fw
    .hidden stele_demo_fw
stele_demo_fw:
    .code16

# ---------------------------------------------------------------- power-on
fw_entry:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7000, %sp

    # Interrupt vectors: all to a plain IRET, then the table.
    xorw    %di, %di
    movw    $256, %cx
2:  movw    $(fw_ignore - stele_demo_fw), %ax
    stosw
    movw    $0xf000, %ax
    stosw
    loop    2b
    movw    $(fw_vectors - stele_demo_fw), %si
3:  movw    %cs:(%si), %di
    cmpw    $0xffff, %di
    je      4f
    movw    %cs:2(%si), %ax
    movw    %ax, (%di)
    addw    $4, %si
    jmp     3b

    # BIOS data area (segment 40h): cleared, then what the services below keep there.
4:  movw    $0x400, %di
    movw    $128, %cx
    xorw    %ax, %ax
    rep stosw
    movw    $0x3f8, 0x400               # COM1
    movw    $0x0021, 0x410              # equipment: 80x25 colour, one disk system
    movw    $640, 0x413                 # KiB of low memory
    movw    $0x001e, 0x41a              # keyboard ring: head, tail
    movw    $0x001e, 0x41c
    movw    $0x001e, 0x480              # its start and end
    movw    $0x003e, 0x482
    movb    $3, 0x449                   # video mode
    movw    $80, 0x44a                  # columns
    movw    $0x3d4, 0x463               # CRTC port
    movb    $24, 0x484                  # rows - 1

    call    fw_init_apic
    call    fw_init_serial
    call    fw_init_vga
    call    fw_init_pic
    call    fw_init_pit
    call    fw_init_keyboard
    call    fw_init_power
    sti

    movw    $(fw_msg_hello - stele_demo_fw), %si
    call    fw_puts
    movw    $(fw_msg_chips - stele_demo_fw), %si
    call    fw_puts
    call    fw_print_ram
    call    fw_find_disk
    int     $0x19
fw_stop:
    sti
    hlt
    jmp     fw_stop

fw_vectors:                             # IVT offset, handler
    .word   0x08 * 4, fw_irq0 - stele_demo_fw
    .word   0x09 * 4, fw_irq1 - stele_demo_fw
    .word   0x10 * 4, fw_int10 - stele_demo_fw
    .word   0x11 * 4, fw_int11 - stele_demo_fw
    .word   0x12 * 4, fw_int12 - stele_demo_fw
    .word   0x13 * 4, fw_int13 - stele_demo_fw
    .word   0x15 * 4, fw_int15 - stele_demo_fw
    .word   0x16 * 4, fw_int16 - stele_demo_fw
    .word   0x18 * 4, fw_int18 - stele_demo_fw
    .word   0x19 * 4, fw_int19 - stele_demo_fw
    .word   0x1a * 4, fw_int1a - stele_demo_fw
    .word   0xffff

fw_ignore:
    iret

fw_msg_hello:
    .asciz  "Stele demo firmware, started at F000:FFF0\r\n"
fw_msg_chips:
    .asciz  "  8259 8254 16550 i8042 VGA ready, interrupts on\r\n"
fw_msg_ram:
    .asciz  "  memory: 640 KiB low, "
fw_msg_mib:
    .asciz  " MiB in all\r\n"

# ---------------------------------------------------------------- chips
# Local APIC, if CPUID tells of one: virtual wire mode, LINT0 as ExtINT, so that the 8259's INTR reaches the CPU
# (SDM Vol. 3A, "Local Vector Table"; software enable first, or the mask bits are stuck at 1). Its registers
# are above 1 MiB: FS gets a 4 GiB limit in protected mode and keeps it.
fw_init_apic:
    movl    $1, %eax
    cpuid
    testw   $0x200, %dx
    jz      2f
    lgdtl   %cs:(fw_gdtr - stele_demo_fw)
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    jmp     3f
3:  movw    $8, %bx
    movw    %bx, %fs
    andb    $0xfe, %al
    movl    %eax, %cr0
    jmp     4f
4:  movl    $0xfee00000, %ebx
    movl    $0x1ff, %fs:0xf0(%ebx)      # spurious vector FFh, enabled
    movl    $0x700, %fs:0x350(%ebx)     # LINT0: ExtINT
    xorw    %ax, %ax
    movw    %ax, %fs
2:  ret
    .balign 8
fw_gdt:
    .quad   0
    .quad   0x008f92000000ffff          # 08h: data, base 0, 4 GiB
fw_gdtr:
    .word   15
    .long   fw_gdt - stele_demo_fw + 0xf0000

# 16550: 115200 baud, 8N1, FIFO on, no interrupts.
fw_init_serial:
    movw    $(fw_uart_table - stele_demo_fw), %si
    jmp     fw_write_ports
fw_uart_table:                          # port, value
    .word   0x3fb, 0x80, 0x3f8, 1, 0x3f9, 0, 0x3fb, 3, 0x3fa, 7, 0x3fc, 3, 0xffff

# 8259 pair: vectors 08h and 70h, edge triggered; timer, keyboard and cascade unmasked.
fw_init_pic:
    movw    $(fw_pic_table - stele_demo_fw), %si
    jmp     fw_write_ports
fw_pic_table:
    .word   0x20, 0x11, 0xa0, 0x11, 0x21, 0x08, 0xa1, 0x70, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
    .word   0x21, 0xf8, 0xa1, 0xff, 0xffff

# 8254 counter 0: rate generator, divisor 65536 = 18.2 Hz.
fw_init_pit:
    movw    $(fw_pit_table - stele_demo_fw), %si
    jmp     fw_write_ports
fw_pit_table:
    .word   0x43, 0x34, 0x40, 0, 0x40, 0, 0xffff

# Writes (port, byte) pairs at CS:SI until port FFFFh.
fw_write_ports:
    movw    %cs:(%si), %dx
    cmpw    $0xffff, %dx
    je      2f
    movb    %cs:2(%si), %al
    outb    %al, %dx
    addw    $4, %si
    jmp     fw_write_ports
2:  ret

# i8042: self-test, IRQ1 and translation on, keyboard scanning.
fw_init_keyboard:
    movb    $0xaa, %al
    call    fw_kbd_command
    call    fw_kbd_read
    movb    $0x60, %al
    call    fw_kbd_command
    movb    $0x65, %al
    call    fw_kbd_data
    movb    $0xae, %al
    call    fw_kbd_command
    movb    $0xf4, %al
    call    fw_kbd_data
    jmp     fw_kbd_read                 # its acknowledgement
fw_kbd_command:
    call    fw_kbd_ready
    outb    %al, $0x64
    ret
fw_kbd_data:
    call    fw_kbd_ready
    outb    %al, $0x60
    ret
fw_kbd_ready:                           # waits until the input buffer is empty, with an end
    pushw   %ax
    movw    $0x4000, %cx
2:  inb     $0x64, %al
    testb   $2, %al
    loopnz  2b
    popw    %ax
    ret
fw_kbd_read:                            # AL = next byte of the controller, with an end
    movw    $0x4000, %cx
2:  inb     $0x64, %al
    testb   $1, %al
    loopz   2b
    inb     $0x60, %al
    ret

# PIIX4 power management, 00:01.3: ACPI registers at I/O 600h, decode on (PMREGMISC bit 0).
fw_init_power:
    movl    $0x80000b40, %eax
    movl    $0x00000601, %ebx
    call    fw_pci_write
    movl    $0x80000b80, %eax
    movl    $0x00000001, %ebx
fw_pci_write:
    movw    $0xcf8, %dx
    outl    %eax, %dx
    movw    $0xcfc, %dx
    movl    %ebx, %eax
    outl    %eax, %dx
    ret

# ---------------------------------------------------------------- small output
# Prints the string at CS:SI.
fw_puts:
    pushw   %ax
2:  movb    %cs:(%si), %al
    incw    %si
    testb   %al, %al
    jz      3f
    movb    $0x0e, %ah
    int     $0x10
    jmp     2b
3:  popw    %ax
    ret

# Prints EAX in decimal.
fw_put_decimal:
    pushal
    movl    $10, %ebx
    xorw    %cx, %cx
2:  xorl    %edx, %edx
    divl    %ebx
    pushw   %dx
    incw    %cx
    testl   %eax, %eax
    jnz     2b
3:  popw    %ax
    addb    $'0', %al
    movb    $0x0e, %ah
    int     $0x10
    loop    3b
    popal
    ret

# Memory size as CMOS says: 34h/35h count 64 KiB above 16 MiB, 30h/31h KiB above 1 MiB.
fw_print_ram:
    movw    $(fw_msg_ram - stele_demo_fw), %si
    call    fw_puts
    movb    $0x34, %bl
    call    fw_cmos_word
    shrl    $4, %eax
    jz      2f
    addl    $16, %eax
    jmp     3f
2:  movb    $0x30, %bl
    call    fw_cmos_word
    shrl    $10, %eax
    incl    %eax
3:  call    fw_put_decimal
    movw    $(fw_msg_mib - stele_demo_fw), %si
    jmp     fw_puts

# EAX = CMOS bytes BL and BL+1.
fw_cmos_word:
    xorl    %eax, %eax
    movb    %bl, %al
    incb    %al
    outb    %al, $0x70
    inb     $0x71, %al
    movb    %al, %ah
    movb    %bl, %al
    outb    %al, $0x70
    inb     $0x71, %al
    ret

# ---------------------------------------------------------------- system services
# Sets or clears the caller's CF. To be reached by a jump, with the IRET frame on top of the stack.
fw_iret_cf:
    pushw   %bp
    movw    %sp, %bp
    orb     $1, 6(%bp)
    popw    %bp
    iret
fw_iret_nc:
    pushw   %bp
    movw    %sp, %bp
    andb    $0xfe, 6(%bp)
    popw    %bp
    iret

fw_int11:                               # equipment word
    movw    %cs:(fw_equipment - stele_demo_fw), %ax
    iret
fw_equipment:
    .word   0x0021
fw_int12:                               # KiB of low memory
    movw    $640, %ax
    iret

# INT 15h: AX=2401h A20 on; AH=88h KiB above 1 MiB; AX=5354h ("ST", our own): AL = 1 if a person sits at the
# console, 0 if the demo shall end by itself (fw_cfg file opt/stele/interactive).
fw_int15:
    cmpw    $0x2401, %ax
    je      2f
    cmpb    $0x88, %ah
    je      3f
    cmpw    $0x5354, %ax
    je      4f
    movb    $0x86, %ah
    jmp     fw_iret_cf
2:  inb     $0x92, %al
    orb     $2, %al
    andb    $0xfe, %al
    outb    %al, $0x92
    xorb    %ah, %ah
    jmp     fw_iret_nc
3:  pushw   %bx
    pushl   %eax
    movb    $0x30, %bl
    call    fw_cmos_word
    movw    %ax, %bx
    popl    %eax
    movw    %bx, %ax
    popw    %bx
    jmp     fw_iret_nc
4:  call    fw_is_interactive
    jmp     fw_iret_nc

fw_int1a:                               # AH=0: ticks since start in CX:DX
    testb   %ah, %ah
    jnz     fw_iret_cf
    pushw   %ds
    pushw   %ax
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    0x46c, %dx
    movw    0x46e, %cx
    popw    %ax
    popw    %ds
    xorb    %al, %al
    iret

fw_irq0:                                # timer: count, then the user's hook
    pushw   %ax
    pushw   %ds
    xorw    %ax, %ax
    movw    %ax, %ds
    incl    0x46c
    int     $0x1c
    movb    $0x20, %al
    outb    %al, $0x20
    popw    %ds
    popw    %ax
    iret

# fw_cfg (QEMU's fw_cfg specification): AL = 0 only if the file opt/stele/interactive holds "0".
fw_is_interactive:
    pushaw
    pushw   %ds
    pushw   %cs
    popw    %ds
    xorw    %ax, %ax                    # key 0: signature
    call    fw_cfg_select
    call    fw_cfg_dword
    cmpl    $0x51454d55, %eax           # "QEMU", read big endian
    jne     8f
    movw    $0x19, %ax                  # the directory
    call    fw_cfg_select
    call    fw_cfg_dword
    cmpl    $256, %eax
    ja      8f
    movw    %ax, %cx
    jcxz    8f
2:  call    fw_cfg_dword                # size
    call    fw_cfg_dword                # key, reserved
    movl    %eax, %ebx
    shrl    $16, %ebx
    movw    $(fw_cfg_name - stele_demo_fw), %si
    xorw    %bp, %bp                    # nonzero = name differs
    movw    $56, %di
3:  inb     %dx, %al
    cmpw    $(fw_cfg_name_end - stele_demo_fw), %si
    jae     4f
    cmpb    (%si), %al
    je      5f
    incw    %bp
5:  incw    %si
4:  decw    %di
    jnz     3b
    testw   %bp, %bp
    jz      6f
    loop    2b
    jmp     8f
6:  movw    %bx, %ax
    call    fw_cfg_select
    inb     %dx, %al
    cmpb    $'0', %al
    je      9f
8:  popw    %ds
    popaw
    movb    $1, %al
    ret
9:  popw    %ds
    popaw
    movb    $0, %al
    ret
fw_cfg_select:
    movw    $0x510, %dx
    outw    %ax, %dx
    incw    %dx
    ret
fw_cfg_dword:                           # EAX = next four bytes, big endian
    pushw   %cx
    movw    $4, %cx
2:  shll    $8, %eax
    inb     %dx, %al
    loop    2b
    popw    %cx
    ret
fw_cfg_name:
    .asciz  "opt/stele/interactive"
fw_cfg_name_end:
