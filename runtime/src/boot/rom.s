# The loader ROM: an option ROM that firmware boots from. Data to the host: never run by it.
# AT&T syntax. Every address is a difference of two labels of this section, so nothing is left to the linker.
# Sources: Plug and Play BIOS Specification 1.0A, "Option ROM"; BIOS Boot Specification 1.01, "BEV"; QEMU's
# interface specification "fw_cfg", "DMA"; ACPI, "INT 15H, E820H" and "RSDP"; Intel SDM Vol. 3, "Mode Switching".

    .set PLAN, 0x1000
    # Fields of the plan (plan.rs, `encode`).
    .set P_LEN, 0
    .set P_COMMANDS, PLAN + 2
    .set P_MAP, PLAN + 4
    .set P_MAP_STRIDE, PLAN + 6
    .set P_COUNT_AT, PLAN + 8
    .set P_COUNT_UNIT, PLAN + 10
    .set P_RSDP_AT, PLAN + 12
    .set P_KIND, PLAN + 14
    .set P_ENTRY, PLAN + 16
    .set P_EAX, PLAN + 20
    .set P_EBX, PLAN + 24
    .set P_ESI, PLAN + 28
    .set P_CR3, PLAN + 32
    .set P_GDT, PLAN + 36
    .set P_LIST, PLAN + 96

    .pushsection .rodata.stele_boot_rom,"a",@progbits
    .balign 16
    .globl  stele_boot_rom
    .hidden stele_boot_rom
stele_boot_rom:
    .code16
    .byte   0x55, 0xaa
    .byte   0                           # length in 512 bytes: filled in by rom.rs
    jmp     rom_init                    # byte 3: called by firmware once
    .org    stele_boot_rom + 0x18
    .word   0                           # no PCI data structure
    .word   rom_pnp - stele_boot_rom

    .balign 16
rom_pnp:
    .ascii  "$PnP"
    .byte   1                           # version
    .byte   2                           # 32 bytes
    .word   0                           # no further header
    .byte   0
    .byte   0                           # checksum: filled in by rom.rs
    .long   0                           # device
    .word   0                           # manufacturer: none
    .word   rom_name - stele_boot_rom   # product
    .byte   0, 0x80, 1                  # class: none of the others
    .byte   0x14                        # cacheable, an initial program load device
    .word   0                           # no boot connection vector
    .word   0                           # no disconnect vector
    .word   rom_boot - stele_boot_rom   # bootstrap entry vector
    .word   0
    .word   0
rom_name:
    .asciz  "Kernel (-kernel)"

rom_init:
    xorw    %ax, %ax
    lretw

# ---------------------------------------------------------------- boot
rom_boot:
    cli
    cld
    xorw    %ax, %ax
    movw    %ax, %es
    movw    %ax, %ss
    movl    $0x8000, %esp               # one page below KERNEL_LOW (plan.rs)
    # The plan goes to low memory: this segment is read-only by now.
    movw    %cs, %bx
    movw    %bx, %ds
    movw    $(rom_plan - stele_boot_rom), %si
    movw    P_LEN(%si), %cx
    movw    $PLAN, %di
    rep movsb
    movw    %ax, %ds

    # Bring everything to its place.
    movw    $0x514, %dx
    xorl    %eax, %eax
    outl    %eax, %dx
    movw    P_COMMANDS, %cx
    movl    $P_LIST, %ebx
1:  movl    %ebx, %eax
    bswapl  %eax
    movw    $0x518, %dx
    outl    %eax, %dx
2:  movl    (%bx), %eax                 # big endian: zero when done, 01000000h after an error
    cmpl    $0x01000000, %eax
    je      rom_failed
    testl   %eax, %eax
    jnz     2b
    addw    $16, %bx
    loop    1b

    # The memory map.
    movw    P_MAP, %di
    testw   %di, %di
    jz      5f
    xorl    %ebx, %ebx
    xorw    %bp, %bp
3:  movl    $0xe820, %eax
    movl    $0x534d4150, %edx
    movl    $20, %ecx
    int     $0x15
    jc      4f
    cmpl    $0x534d4150, %eax
    jne     4f
    incw    %bp
    addw    P_MAP_STRIDE, %di
    cmpw    $128, %bp
    jae     4f
    testl   %ebx, %ebx
    jnz     3b
4:  movw    %bp, %ax
    mulw    P_COUNT_UNIT
    movw    P_COUNT_AT, %di
    movw    %ax, (%di)
    movw    %dx, 2(%di)
5:  cli

    # The ACPI root pointer: on 16 bytes in the last 128 KiB of the first MiB.
    cmpw    $0, P_RSDP_AT
    je      8f
    movw    $0xe000, %ax
6:  movw    %ax, %fs
    cmpl    $0x20445352, %fs:0          # "RSD "
    jne     7f
    cmpl    $0x20525450, %fs:4          # "PTR "
    jne     7f
    movzwl  %ax, %eax
    shll    $4, %eax
    movw    P_RSDP_AT, %di
    movl    %eax, (%di)
    jmp     8f
7:  incw    %ax
    jnz     6b

8:  cmpb    $16, P_KIND
    jne     rom_protected
    # Real mode: 32 bytes past the segment's start, as if loaded by a boot sector.
    movw    P_ENTRY, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %fs
    movw    %ax, %gs
    movw    %ax, %ss
    movl    $0xe000, %esp
    addw    $0x20, %ax
    pushw   %ax
    pushw   $0
    lretw

rom_failed:
    int     $0x18

rom_protected:
    xorl    %ebp, %ebp
    movw    %cs, %bp
    shll    $4, %ebp
    lgdtl   P_GDT
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    leal    (rom_32 - stele_boot_rom)(%ebp), %eax
    pushl   $0x08
    pushl   %eax
    lretl

    .code32
rom_32:
    movl    $0x18, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    movl    %eax, %fs
    movl    %eax, %gs
    movl    $0x20, %eax
    ltr     %ax
    cmpb    $64, P_KIND
    je      rom_long
    pushl   $0x10
    pushl   P_ENTRY
    movl    P_EAX, %eax
    movl    P_EBX, %ebx
    movl    P_ESI, %esi
    xorl    %ecx, %ecx
    xorl    %edx, %edx
    xorl    %edi, %edi
    xorl    %ebp, %ebp
    lretl

rom_long:
    movl    P_CR3, %eax
    movl    %eax, %cr3
    movl    %cr4, %eax
    orl     $0x20, %eax                 # PAE
    movl    %eax, %cr4
    movl    $0xc0000080, %ecx           # EFER
    rdmsr
    orl     $0x100, %eax                # LME
    wrmsr
    movl    %cr0, %eax
    orl     $0x80000000, %eax           # PG
    movl    %eax, %cr0
    leal    (rom_64 - stele_boot_rom)(%ebp), %eax
    pushl   $0x10
    pushl   %eax
    lretl

    .code64
rom_64:
    movl    P_ESI, %esi
    movl    P_ENTRY, %eax
    xorl    %ebx, %ebx
    xorl    %ecx, %ecx
    xorl    %edx, %edx
    xorl    %edi, %edi
    xorl    %ebp, %ebp
    jmp     *%rax

    .balign 16
rom_plan:                               # appended by rom.rs
    .globl  stele_boot_rom_end
    .hidden stele_boot_rom_end
stele_boot_rom_end:
    .code64
    .popsection
