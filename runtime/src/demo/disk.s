# The demo disk: boot sector (real mode, at 0:7C00) and stage two (at 0:8000), which goes on to protected mode.
# It also boots under any other PC firmware. AT&T syntax; addresses are label differences plus the load address.

    .pushsection .rodata.stele_demo_disk,"a",@progbits
    .balign 16
    .globl  stele_demo_disk
    .hidden stele_demo_disk
stele_demo_disk:
    .code16

# ---------------------------------------------------------------- boot sector
    .set    BOOT, 0x7c00
    .set    STAGE2, 0x8000
    .set    STAGE2_SECTORS, 16

    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movw    $0x7c00, %sp
    cld
    movb    %dl, 0x7bff                 # boot disk, below the stack's first push
    subw    $2, %sp
    movw    $(boot_hello - stele_demo_disk + BOOT), %si
    call    boot_puts
    movw    $(boot_packet - stele_demo_disk + BOOT), %si
    movb    0x7bff, %dl
    movb    $0x42, %ah
    int     $0x13
    jc      2f
    ljmp    $0, $STAGE2
2:  movw    $(boot_failed - stele_demo_disk + BOOT), %si
    call    boot_puts
3:  hlt
    jmp     3b

boot_puts:                              # the string at DS:SI through INT 10h
    lodsb
    testb   %al, %al
    jz      2f
    movb    $0x0e, %ah
    movw    $7, %bx
    int     $0x10
    jmp     boot_puts
2:  ret

boot_packet:                            # INT 13h extended read: STAGE2_SECTORS from sector 1 to 0:STAGE2
    .byte   16, 0
    .word   STAGE2_SECTORS, STAGE2, 0
    .long   1, 0
boot_hello:
    .asciz  "Real mode: boot sector at 0000:7C00\r\n"
boot_failed:
    .asciz  "disk read error\r\n"
    .org    510, 0
    .byte   0x55, 0xaa

# ---------------------------------------------------------------- stage two, real mode
stage2:
    movw    $(s2_hello - stage2 + STAGE2), %si
    call    s2_puts
    movw    $0x2401, %ax                # A20
    int     $0x15
    movw    $0x5354, %ax                # is a person there? Firmware that does not know says CF = 1: yes
    int     $0x15
    jnc     2f
    movb    $1, %al
2:  movb    %al, s2_interactive - stage2 + STAGE2
    movb    $0x03, %ah                  # where the text goes on: DH row, DL column
    xorb    %bh, %bh
    int     $0x10
    movb    %dh, s2_row - stage2 + STAGE2
    cli
    lgdtl   s2_gdtr - stage2 + STAGE2
    movl    %cr0, %eax
    orl     $1, %eax
    movl    %eax, %cr0
    .byte   0x66, 0xea                  # ljmpl $8, $pm_entry
    .long   pm_entry - stage2 + STAGE2
    .word   8

s2_puts:
    lodsb
    testb   %al, %al
    jz      2f
    movb    $0x0e, %ah
    movw    $7, %bx
    int     $0x10
    jmp     s2_puts
2:  ret

s2_hello:
    .asciz  "Real mode: stage two at 0000:8000, A20 on, next CR0.PE\r\n"
    .balign 8
s2_gdt:
    .quad   0
    .quad   0x00cf9a000000ffff          # 08h: code, flat, 32-bit
    .quad   0x00cf92000000ffff          # 10h: data, flat
s2_gdtr:
    .word   23
    .long   s2_gdt - stage2 + STAGE2
s2_interactive:
    .byte   1
s2_row:
    .byte   0
    .balign 4
pm_ticks:
    .long   0
pm_key:                                 # last character from IRQ 1, 0 = none
    .long   0
pm_cursor:                              # cell number 0..1999
    .long   0
pm_color:
    .long   7
    .code32
