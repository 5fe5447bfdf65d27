; Firmware that runs one static x86-64 ELF program in long mode, at CPL 3, and nothing else.
;
; From the reset vector through protected mode to long mode; the program's segments are copied to where they
; belong, and SYSCALL serves write (to port E9) and exit (to the debug exit at port 501h). An exception prints its
; vector, error code and address, and leaves with code 255.
;
;   nasm -f bin -DPROGRAM='"arith"' shell.asm -o shell.bin

%define SIZE 0x20000
%define BASE (0x100000000 - SIZE)
%define LOW 0xF0000                     ; the last 64 KiB, as real mode sees them

org 0
; ---- tables in RAM
%define PML4 0x1000
%define PDPT 0x2000
%define PD 0x3000                       ; four of them
%define TSS 0x8000
%define IDT 0x9000
%define KSTACK 0x20000
%define USTACK 0x2000000

program:
        incbin PROGRAM
        times SIZE - 0x10000 - ($ - program) db 0

; ---- the last 64 KiB
last:
%define at(label) (label - last)        ; offset in segment F000
%define high(label) (BASE + SIZE - 0x10000 + label - last)

bits 16
start16:
        cli
        o32 lgdt [cs:at(gdt_low)]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 8:high(start32)

bits 32
start32:
        mov eax, 0x10
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esp, KSTACK
        ; page tables: the first 4 GiB by 2 MiB pages, open to the user
        mov edi, PML4
        xor eax, eax
        mov ecx, 0x6000 / 4
        rep stosd
        mov dword [PML4], PDPT | 7
        xor ecx, ecx
.pdpt:  mov eax, ecx
        shl eax, 12
        add eax, PD | 7
        mov [PDPT + ecx * 8], eax
        inc ecx
        cmp ecx, 4
        jb .pdpt
        xor ecx, ecx
.pd:    mov eax, ecx
        shl eax, 21
        or eax, 0x87
        mov [PD + ecx * 8], eax
        inc ecx
        cmp ecx, 2048
        jb .pd
        mov eax, cr4
        or eax, 0x620                   ; PAE, OSFXSR, OSXMMEXCPT
        mov cr4, eax
        mov eax, PML4
        mov cr3, eax
        mov ecx, 0xC0000080
        rdmsr
        or eax, 0x101                   ; LME, SCE
        wrmsr
        mov eax, cr0
        and eax, ~0xE                   ; no EM, no TS
        or eax, 0x80010022              ; PG, WP, NE, MP
        mov cr0, eax
        jmp 0x18:high(start64)

bits 64
default rel
start64:
        mov rax, high(gdt_high)
        lgdt [rax]
        mov eax, 0x10
        mov ss, eax
        ; the TSS with its stack, and its descriptor in a copy of the GDT
        mov edi, TSS
        xor eax, eax
        mov ecx, 0x68 / 4
        rep stosd
        mov qword [abs TSS + 4], KSTACK
        mov word [abs TSS + 0x66], 0x68
        mov eax, 0x38
        ltr ax
        ; the IDT: 32 gates to stubs of 16 bytes each
        mov edi, IDT
        mov rbx, high(stubs)
        xor ecx, ecx
.gate:  mov rax, rbx
        mov [rdi], ax
        mov word [rdi + 2], 0x18
        mov word [rdi + 4], 0x8E00
        shr rax, 16
        mov [rdi + 6], ax
        shr rax, 16
        mov [rdi + 8], rax
        add rbx, 16
        add edi, 16
        inc ecx
        cmp ecx, 32
        jb .gate
        mov rax, high(idt_high)
        lidt [rax]
        ; AVX where there is XSAVE
        mov eax, 1
        cpuid
        bt ecx, 26
        jnc .no_xsave
        mov rax, cr4
        or eax, 1 << 18
        mov cr4, rax
        and ecx, 1 << 28
        shr ecx, 28 - 2
        mov eax, ecx                    ; YMM if there is AVX
        or eax, 3
        xor ecx, ecx
        xor edx, edx
        xsetbv
.no_xsave:
        ; SYSCALL
        mov ecx, 0xC0000081
        xor eax, eax
        mov edx, 0x00230018             ; SYSRET: 0x23 + 16 = user code; SYSCALL: 0x18
        wrmsr
        inc ecx
        mov rax, high(syscall_entry)
        mov rdx, rax
        shr rdx, 32
        wrmsr
        mov ecx, 0xC0000084
        mov eax, 0x700
        xor edx, edx
        wrmsr
        ; load the program
        mov rsi, BASE
        mov r8, rsi
        movzx r9d, word [rsi + 56]      ; number of program headers
        mov r10, [rsi + 32]
        add r10, rsi
.header:
        cmp dword [r10], 1
        jne .next
        mov rsi, [r10 + 8]
        add rsi, r8
        mov rdi, [r10 + 16]
        mov rcx, [r10 + 32]
        rep movsb
        mov rcx, [r10 + 40]
        sub rcx, [r10 + 32]
        xor eax, eax
        rep stosb
.next:  movzx eax, word [r8 + 54]
        add r10, rax
        dec r9d
        jnz .header
        ; to CPL 3
        mov rcx, [r8 + 24]
        mov r11d, 0x202
        mov esp, USTACK
        push 0
        push 0
        push 0
        push 0
        fninit
        o64 sysret

syscall_entry:
        cmp eax, 1
        je .write
        cmp eax, 60
        je .exit
        cmp eax, 231
        je .exit
        mov rax, -38                    ; ENOSYS
        o64 sysret
.write: mov [abs KSTACK - 8], rcx
        mov [abs KSTACK - 16], rdx
        mov [abs KSTACK - 24], rsi
        mov rcx, rdx
        mov edx, 0xE9
        rep outsb
        mov rcx, [abs KSTACK - 8]
        mov rdx, [abs KSTACK - 16]
        mov rsi, [abs KSTACK - 24]
        mov rax, rdx
        o64 sysret
.exit:  mov eax, edi
leave_machine:
        mov dx, 0x501
        out dx, al
        cli
        hlt
        jmp leave_machine

failed: ; stack: vector, error code, rip, cs, rflags, rsp, ss
        mov al, '!'
        out 0xE9, al
        mov rsi, rsp
        mov r12d, 3
.word:  mov rax, [rsi]
        mov r13, rax
        mov r14d, 16
.digit: rol r13, 4
        mov eax, r13d
        and al, 15
        add al, '0'
        cmp al, '9'
        jbe .out
        add al, 39
.out:   out 0xE9, al
        dec r14d
        jnz .digit
        mov al, ' '
        out 0xE9, al
        add rsi, 8
        dec r12d
        jnz .word
        mov al, 10
        out 0xE9, al
        mov eax, 255
        jmp leave_machine

        align 16
stubs:
%assign vector 0
%rep 32
        align 16
%if !((vector >= 10 && vector <= 14) || vector == 8 || vector == 17 || vector == 21)
        push 0
%endif
        push vector
        jmp failed
%assign vector vector + 1
%endrep

        align 8
gdt:    dq 0
        dq 0x00CF9B000000FFFF           ; 08 code, 32 bits
        dq 0x00CF93000000FFFF           ; 10 data
        dq 0x00AF9B000000FFFF           ; 18 code, 64 bits
        dq 0x00CF93000000FFFF           ; 20 data, as SYSCALL sets it
        dq 0x00CFF3000000FFFF           ; 28 user data (2B)
        dq 0x00AFFB000000FFFF           ; 30 user code (33)
        dw 0x67, TSS                    ; 38 TSS
        db 0, 0x89, 0, 0
        dq 0
gdt_end:
gdt_low:
        dw gdt_end - gdt - 1
        dd high(gdt)
gdt_high:
        dw gdt_end - gdt - 1
        dq high(gdt)
idt_high:
        dw 32 * 16 - 1
        dq IDT

        times 0xFFF0 - ($ - last) db 0
bits 16
reset:  jmp 0xF000:at(start16)
        times 0x10000 - ($ - last) db 0
