# Demo disk, stage two in protected mode: paging, interrupts, some work to look at, keys, power off.
# Memory: page directory 10000h, page table 11000h, IDT 12000h, stack below 80000h, sieve at 100000h.

    .set    PAGE_DIR, 0x10000
    .set    PAGE_TABLE, 0x11000
    .set    IDT, 0x12000
    .set    SIEVE, 0x100000
    .set    SIEVE_SIZE, 100000
    .set    TEXT, 0xc00b8000            # VGA text through the alias that paging makes

pm_entry:
    movw    $0x10, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %fs
    movw    %ax, %gs
    movw    %ax, %ss
    movl    $0x80000, %esp
    cld
    movzbl  s2_row - stage2 + STAGE2, %eax
    imull   $80, %eax, %eax
    movl    %eax, pm_cursor - stage2 + STAGE2

    # Paging: the first 4 MiB at 0 and again at C0000000h.
    movl    $PAGE_DIR, %edi
    xorl    %eax, %eax
    movl    $1024, %ecx
    rep stosl
    movl    $PAGE_TABLE, %edi
    movl    $3, %eax
    movl    $1024, %ecx
2:  stosl
    addl    $4096, %eax
    loop    2b
    movl    $(PAGE_TABLE + 3), PAGE_DIR
    movl    $(PAGE_TABLE + 3), PAGE_DIR + 768 * 4
    movl    $PAGE_DIR, %eax
    movl    %eax, %cr3
    movl    %cr0, %eax
    orl     $0x80010000, %eax           # PG, WP
    movl    %eax, %cr0
    jmp     3f
3:
    call    pm_init_interrupts
    sti
    movl    $0x0a, pm_color - stage2 + STAGE2
    movl    $(pm_msg_mode - stage2 + STAGE2), %esi
    call    pm_puts
    movl    $0x07, pm_color - stage2 + STAGE2
    call    pm_sieve
    call    pm_mandelbrot
    jmp     pm_main

pm_msg_mode:
    .asciz  "Protected mode: paging on, IDT set, timer 100 Hz\n"
pm_msg_primes:
    .asciz  "Primes below 100000: "
pm_msg_keys:
    .asciz  "Type: keys are echoed. q or Esc switches the machine off.\n> "
pm_msg_ticks:
    .asciz  "Timer interrupts counted: "
pm_msg_off:
    .asciz  "\nPower off.\n"
pm_msg_fault:
    .asciz  "\nUnexpected exception.\n"
    .balign 4

# ---------------------------------------------------------------- interrupts
pm_init_interrupts:
    movl    $IDT, %edi
    movl    $256, %ecx
2:  movl    $(pm_exception - stage2 + STAGE2), %eax
    call    pm_gate
    loop    2b
    movl    $(IDT + 0x20 * 8), %edi
    movl    $(pm_irq0 - stage2 + STAGE2), %eax
    call    pm_gate
    movl    $(pm_irq1 - stage2 + STAGE2), %eax
    call    pm_gate
    movl    $(IDT + 0x27 * 8), %edi     # spurious
    movl    $(pm_iret - stage2 + STAGE2), %eax
    call    pm_gate
    lidtl   pm_idtr - stage2 + STAGE2
    movl    $(pm_chips - stage2 + STAGE2), %esi
    movl    $14, %ecx                   # 8259s to 20h and 28h, timer and keyboard; 8254 to 100 Hz
3:  movzbl  (%esi), %edx
    movb    1(%esi), %al
    outb    %al, %dx
    addl    $2, %esi
    loop    3b
    ret
pm_idtr:
    .word   256 * 8 - 1
    .long   IDT
pm_chips:
    .byte   0x20, 0x11, 0xa0, 0x11, 0x21, 0x20, 0xa1, 0x28, 0x21, 4, 0xa1, 2, 0x21, 1, 0xa1, 1
    .byte   0x21, 0xfc, 0xa1, 0xff, 0x43, 0x34, 0x40, 0x9c, 0x40, 0x2e, 0x20, 0x20
    .balign 4

pm_gate:                                # a 32-bit interrupt gate to 08:EAX at EDI, which moves on
    movw    %ax, (%edi)
    movw    $8, 2(%edi)
    movw    $0x8e00, 4(%edi)
    shrl    $16, %eax
    movw    %ax, 6(%edi)
    addl    $8, %edi
    ret

pm_irq0:
    pushl   %eax
    incl    pm_ticks - stage2 + STAGE2
    movb    $0x20, %al
    outb    %al, $0x20
    popl    %eax
pm_iret:
    iretl

pm_irq1:
    pushl   %eax
    xorl    %eax, %eax
    inb     $0x60, %al
    testb   $0x80, %al
    jnz     2f
    cmpb    $58, %al
    jae     2f
    movzbl  pm_keymap - stage2 + STAGE2(%eax), %eax
    movl    %eax, pm_key - stage2 + STAGE2
2:  movb    $0x20, %al
    outb    %al, $0x20
    popl    %eax
    iretl
pm_keymap:                              # scan code set 1
    .byte   0, 27
    .ascii  "1234567890-="
    .byte   8, 9
    .ascii  "qwertyuiop[]"
    .byte   13, 0
    .ascii  "asdfghjkl;'`"
    .byte   0
    .ascii  "\\zxcvbnm,./"
    .byte   0, '*', 0, ' '
    .balign 4

pm_exception:
    movl    $0x0c, pm_color - stage2 + STAGE2
    movl    $(pm_msg_fault - stage2 + STAGE2), %esi
    call    pm_puts
    jmp     pm_power_off

# ---------------------------------------------------------------- output: screen and COM1
pm_puts:                                # the string at ESI
    lodsb
    testb   %al, %al
    jz      2f
    call    pm_putc
    jmp     pm_puts
2:  ret

pm_putc:                                # AL in the colour pm_color
    pushal
    movb    %al, %bl
    cmpb    $10, %al
    jne     2f
    movb    $13, %al
    call    pm_serial
    movb    %bl, %al
2:  call    pm_serial
    movl    pm_cursor - stage2 + STAGE2, %ecx
    cmpb    $8, %bl
    je      6f
    cmpb    $10, %bl
    je      3f
    movb    pm_color - stage2 + STAGE2, %bh
    movw    %bx, TEXT(,%ecx,2)
    incl    %ecx
    jmp     4f
6:  testl   %ecx, %ecx
    jz      4f
    decl    %ecx
    movw    $0x0720, TEXT(,%ecx,2)
    jmp     4f
3:  movl    %ecx, %eax                  # to the start of the next row
    xorl    %edx, %edx
    movl    $80, %esi
    divl    %esi
    subl    %edx, %ecx
    addl    $80, %ecx
4:  cmpl    $2000, %ecx
    jb      5f
    subl    $80, %ecx
    pushl   %ecx
    movl    $TEXT, %edi
    leal    160(%edi), %esi
    movl    $960, %ecx
    rep movsl
    movl    $0x07200720, %eax
    movl    $40, %ecx
    rep stosl
    popl    %ecx
5:  movl    %ecx, pm_cursor - stage2 + STAGE2
    movl    $0x3d4, %edx
    movb    $0x0e, %al
    movb    %ch, %ah
    outw    %ax, %dx
    movb    $0x0f, %al
    movb    %cl, %ah
    outw    %ax, %dx
    popal
    ret

pm_serial:                              # AL to COM1; waits for room, with an end
    pushal
    movb    %al, %ah
    movl    $0x3fd, %edx
    movl    $0x4000, %ecx
2:  inb     %dx, %al
    testb   $0x20, %al
    loopz   2b
    movb    %ah, %al
    movl    $0x3f8, %edx
    outb    %al, %dx
    popal
    ret

pm_decimal:                             # EAX
    pushal
    movl    $10, %ebx
    xorl    %ecx, %ecx
2:  xorl    %edx, %edx
    divl    %ebx
    pushl   %edx
    incl    %ecx
    testl   %eax, %eax
    jnz     2b
3:  popl    %eax
    addb    $'0', %al
    call    pm_putc
    loop    3b
    popal
    ret

# ---------------------------------------------------------------- work
pm_sieve:
    movl    $SIEVE, %edi
    movb    $1, %al
    movl    $SIEVE_SIZE, %ecx
    rep stosb
    movl    $2, %ebx                    # candidate
    xorl    %ebp, %ebp                  # primes
2:  cmpb    $0, SIEVE(%ebx)
    je      4f
    incl    %ebp
    movl    %ebx, %eax
    addl    %ebx, %eax
3:  cmpl    $SIEVE_SIZE, %eax
    jae     4f
    movb    $0, SIEVE(%eax)
    addl    %ebx, %eax
    jmp     3b
4:  incl    %ebx
    cmpl    $SIEVE_SIZE, %ebx
    jb      2b
    movl    $(pm_msg_primes - stage2 + STAGE2), %esi
    call    pm_puts
    movl    %ebp, %eax
    call    pm_decimal
    movb    $10, %al
    jmp     pm_putc

# z = z*z + c in 20.12 fixed point: 12 rows of 64 cells, c from -2.2-1.2i to 1-1.2i+..., one character per cell.
    .set    CELL_X, 205                 # 3.2 / 64
    .set    CELL_Y, 819                 # 2.4 / 12
    .set    LIMIT, 60
pm_mandelbrot:
    movl    $-4505, %edi                # imaginary part of c: -1.1
2:  movl    $-9011, %esi                # real part of c: -2.2
    movb    $' ', %al
    call    pm_putc
    call    pm_putc
3:  xorl    %ebx, %ebx                  # x
    xorl    %ecx, %ecx                  # y
    xorl    %ebp, %ebp                  # steps
4:  movl    %ebx, %eax
    imull   %eax, %eax
    sarl    $12, %eax
    movl    %ecx, %edx
    imull   %edx, %edx
    sarl    $12, %edx
    pushl   %eax
    addl    %edx, %eax
    cmpl    $(4 << 12), %eax
    popl    %eax
    ja      5f
    subl    %edx, %eax
    addl    %esi, %eax                  # x' = x*x - y*y + cx
    imull   %ebx, %ecx
    sarl    $11, %ecx
    addl    %edi, %ecx                  # y' = 2*x*y + cy
    movl    %eax, %ebx
    incl    %ebp
    cmpl    $LIMIT, %ebp
    jb      4b
5:  call    pm_shade
    addl    $CELL_X, %esi
    cmpl    $(-9011 + 64 * CELL_X), %esi
    jl      3b
    movb    $10, %al
    call    pm_putc
    addl    $CELL_Y, %edi
    cmpl    $(-4505 + 12 * CELL_Y), %edi
    jl      2b
    movl    $7, pm_color - stage2 + STAGE2
    ret

pm_shade:                               # one cell for EBP steps
    movl    %ebp, %eax
    cmpl    $LIMIT, %eax
    jb      2f
    movl    $0x0f, pm_color - stage2 + STAGE2
    movb    $'@', %al
    jmp     pm_putc
2:  pushl   %eax
    andl    $7, %eax
    movzbl  pm_colors - stage2 + STAGE2(%eax), %eax
    movl    %eax, pm_color - stage2 + STAGE2
    popl    %eax
    cmpl    $11, %eax
    jbe     3f
    movl    $11, %eax
3:  movb    pm_shades - stage2 + STAGE2(%eax), %al
    jmp     pm_putc
pm_shades:
    .ascii  "  ..:;-=+*#%"
pm_colors:
    .byte   1, 9, 3, 11, 2, 10, 14, 12
    .balign 4

# ---------------------------------------------------------------- the end: keys, ticks, power off
pm_main:
    cmpb    $0, s2_interactive - stage2 + STAGE2
    jne     3f
2:  sti                                 # nobody there: five ticks, then off
    hlt
    cmpl    $5, pm_ticks - stage2 + STAGE2
    jb      2b
    movl    $(pm_msg_ticks - stage2 + STAGE2), %esi
    call    pm_puts
    movl    pm_ticks - stage2 + STAGE2, %eax
    call    pm_decimal
    jmp     pm_leave
3:  movl    $(pm_msg_keys - stage2 + STAGE2), %esi
    call    pm_puts
4:  hlt
    call    pm_clock
    xorl    %eax, %eax
    xchgl   %eax, pm_key - stage2 + STAGE2
    testl   %eax, %eax
    jnz     5f
    movl    $0x3fd, %edx                # or a byte from COM1
    inb     %dx, %al
    testb   $1, %al
    jz      4b
    movl    $0x3f8, %edx
    inb     %dx, %al
5:  cmpb    $27, %al
    je      pm_leave
    cmpb    $'q', %al
    je      pm_leave
    cmpb    $'Q', %al
    je      pm_leave
    cmpb    $127, %al
    jne     6f
    movb    $8, %al
6:  cmpb    $13, %al
    jne     7f
    movb    $10, %al
7:  call    pm_putc
    jmp     4b
pm_leave:
    movl    $(pm_msg_off - stage2 + STAGE2), %esi
    call    pm_puts
pm_power_off:                           # ACPI S5: SLP_EN, SLP_TYP 0 to PM1a control of the PIIX4 at 00:01.3
    movl    $0x80000b40, %eax           # its registers are where firmware put them: PMBASE
    movl    $0xcf8, %edx
    outl    %eax, %dx
    movl    $0xcfc, %edx
    inl     %dx, %eax
    movzwl  %ax, %edx
    andl    $0xffc0, %edx
    addl    $4, %edx
    movw    $0x2000, %ax
    outw    %ax, %dx
    cli
2:  hlt
    jmp     2b

pm_clock:                               # seconds and hundredths in the upper right corner
    pushal
    movl    pm_ticks - stage2 + STAGE2, %eax
    movl    $(TEXT + 79 * 2), %edi
    movl    $10, %ebx
    movl    $9, %ecx
2:  movb    $'.', %dl
    cmpl    $7, %ecx
    je      3f
    xorl    %edx, %edx
    divl    %ebx
    addb    $'0', %dl
3:  movb    $0x1f, %dh
    movw    %dx, (%edi)
    subl    $2, %edi
    loop    2b
    popal
    ret

    .org    512 + STAGE2_SECTORS * 512, 0    # an error here: stage two has outgrown its sectors
    .org    32768, 0
    .globl  stele_demo_disk_end
    .hidden stele_demo_disk_end
stele_demo_disk_end:
    .code64
    .popsection
