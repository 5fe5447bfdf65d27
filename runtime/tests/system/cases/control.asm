; Control registers, model-specific registers, and instructions that ask for privileges.
; bits of CR4 that every peer has: QEMU 7.2 hangs on the others
%define SUPPORTED(b) ((b) < 11 || (b) == 16 || (b) == 17 || (b) == 18 || (b) == 20 || (b) == 21)
%assign b 0
%rep 32
%if b != 0 && b != 31
        cr 'cr0bit', PROT32, 0x11 ^ (1 << b), {mov cr0, eax}, {mov ebx, cr0}
%endif
%if SUPPORTED(b)
        cr 'cr4bit', PROT32, 1 << b, {mov cr4, eax}, {mov ebx, cr4}
%endif
%if b != 0 && b != 31
        cr 'cr0long', LONG, 0x80010011 ^ (1 << b), {mov cr0, rax}, {mov rbx, cr0}
%endif
%if SUPPORTED(b) && b != 5
        cr 'cr4long', LONG, 0x20 ^ (1 << b), {mov cr4, rax}, {mov rbx, cr4}
%endif
        cr 'cr0high', LONG, 0x80010011 | (1 << (b + 32)), {mov cr0, rax}
        cr 'eferbit', LONG, 0x500 ^ (1 << b), {mov ecx, 0xC0000080}, {xor edx, edx}, {wrmsr}, {rdmsr}
%assign b b + 1
%endrep
        cr 'cr8', LONG, 5, {mov cr8, rax}, {mov rbx, cr8}
        cr 'cr8bad', LONG, 0x10, {mov cr8, rax}
        cr 'cr1', LONG, 0, {db 0x0F, 0x20, 0xC8}
        cr 'cr2', LONG, 0x123456789ABCDEF0, {mov cr2, rax}, {mov rbx, cr2}
        cr 'cr3bits', LONG, PML4 | 0x18, {mov cr3, rax}, {mov rbx, cr3}
        cr 'cr3low', LONG, PML4 | 0xFE7, {mov cr3, rax}, {mov rbx, cr3}
        cr 'pcidelow', LONG, PML4 | 1, {mov cr3, rax}, {mov rbx, cr4}, {bts rbx, 17}, {mov cr4, rbx}
        cr 'lmsw', PROT32, 0, {lmsw ax}, {mov ebx, cr0}
        cr 'lmswts', PROT32, 8, {lmsw ax}, {mov ebx, cr0}
        cr 'smsw', PROT32, 0, {smsw eax}
        cr 'smsw64', LONG, -1, {smsw rax}, {smsw bx}
        cr 'sldt', LONG, -1, {sldt ax}, {sldt ebx}, {sldt rcx}
        cr 'str', LONG, -1, {str ax}, {str ebx}, {str rcx}
        cr 'clts', LONG, 0, clts
        cr 'invd', LONG, 0, wbinvd
        cr 'rdpmc', LONG, 0, {mov ecx, 0x80000000}, {rdpmc}
        cr 'swapgs', LONG, 0, swapgs
        cr 'swapgs32', COMPAT, 0, {db 0x0F, 0x01, 0xF8}
        cr 'in', LONG, 0, {in al, 0x80}
        ; Ports where nothing is.
        cr 'inport', LONG, 0x5F0, {mov edx, eax}, {in al, dx}, {in ax, dx}, {in eax, dx}, {in eax, 0xE4}
        cr 'outport', LONG, 0x5F0, {mov edx, eax}, {out dx, al}, {out dx, eax}, {out 0xED, al}, {out 0xED, eax}
        cr 'insouts', LONG, 0x5F0, {mov edx, eax}, {mov edi, LOWDATA}, {mov rsi, rdi}, insb, insd, outsb, outsd
        cr 'invdonly', LONG, 0, invd
        ; What differs by processor and moment is dropped; upper halves and flags are left.
        cr 'cpuid', LONG, 0, cpuid, {shr rbx, 32}, {shr rcx, 32}, {shr rdx, 32}, {xor eax, eax}
        cr 'rdtsc', LONG, -1, {rdtsc}, {shr rax, 32}, {shr rdx, 32}, {xor ecx, ecx}
        cr 'rdtscp', LONG, -1, {rdtscp}, {shr rax, 32}, {shr rdx, 32}, {xor ebx, ebx}
        cr 'rdrand', LONG, -1, {rdrand rax}, {mov eax, 0}
        cr 'rdseed', LONG, -1, {rdseed eax}, {mov eax, 0}
        cr 'rdpid', LONG, -1, {rdpid rax}
        cr 'invpcid', LONG, 2, {cqo}, {mov [LOWDATA], rdx}, {mov [LOWDATA + 8], rdx}, {invpcid rax, [LOWDATA]}
        cr 'smswm', LONG, -1, {smsw [LOWDATA]}, {mov rbx, [LOWDATA]}
        cr 'sidt', LONG, -1, {sidt [LOWDATA]}, {mov rbx, [LOWDATA]}, {lidt [LOWDATA]}
        cr 'cli', LONG, 0, cli
        cr 'sti', LONG, 0, sti
        cr 'popf', LONG, 0x3FFFD7, {push rax}, {popfq}, {pushfq}, {pop rbx}
        cr 'popf32', PROT32, 0x24FED7, {push eax}, {popfd}, {pushfd}, {pop ebx}
        cr 'xgetbv', LONG, 0, {xor ecx, ecx}, {xgetbv}
        cr 'xsetbv', LONG, 0, {mov eax, 0x40620}, {mov cr4, rax}, {xor ecx, ecx}, {mov eax, 7}, {xor edx, edx}, {xsetbv}
%assign x 0
%rep 8
        cr 'xcr0', LONG, x, {mov rbx, rax}, {mov eax, 0x40620}, {mov cr4, rax}, {xor ecx, ecx}, {mov eax, ebx}, {xor edx, edx}, {xsetbv}
%assign x x + 1
%endrep
        cr 'umip', LONG, 0x820, {mov cr4, rax}, {sgdt [LOWDATA]}, {smsw ebx}
        cr 'msrbad', LONG, 0, {mov ecx, 0x12345}, {rdmsr}
        cr 'lar', LONG, SEL(0, 0), {lar rbx, ax}, {lsl rcx, ax}
        cr 'larnull', LONG, 0, {lar rbx, ax}
        cr 'lartss', LONG, SEL_TSS64, {lar rbx, ax}, {lsl rcx, ax}
        cr 'lartss32', LONG, SEL_TSS, {lar rbx, ax}, {lsl rcx, ax}
        cr 'larldt', LONG, SEL_LDT, {lar rbx, ax}, {lsl rcx, ax}
        cr 'verr', LONG, SEL(3, 1), {verr ax}, {pushfq}, {pop rbx}, {verw ax}
        cr 'verw', LONG, SEL(0, 1), {verw ax}
        cr 'ltr', LONG, SEL_TSS64, {ltr ax}
        cr 'ltrtss32', LONG, SEL_TSS, {ltr ax}
        cr 'ltrnull', LONG, 0, {ltr ax}
        cr 'ltrldt', PROT32, SEL_LDT, {ltr ax}
        cr 'lldt', LONG, SEL_LDT, {lldt ax}
        cr 'lldtnull', LONG, 3, {lldt ax}, {sldt ecx}
        cr 'lldttss', LONG, SEL_TSS64, {lldt ax}
        cr 'lldtlast', LONG, 0x1F8, {lldt ax}
        cr 'nx_efer', PROT32, 0x100, {mov ecx, 0xC0000080}, {xor edx, edx}, {wrmsr}, {rdmsr}
        cr 'mwait', LONG, 0, {xor ecx, ecx}, {xor edx, edx}, {mov eax, LOWDATA}, {monitor}
; AC: alignment checks
%macro aligned 3+                       ; name, cpl, instruction
record %1, LONG, %2
with cr0, 0x40000
with flags, 0x40002
reg rbx, DATA + 1
reg rsi, DATA + 4
code
        %3
done
%endmacro
%assign level 0
%rep 2
        aligned 'ac1', level, mov al, [rbx]
        aligned 'ac2', level, mov ax, [rbx]
        aligned 'ac4', level, mov eax, [rbx]
        aligned 'ac8', level, mov rax, [rbx]
        aligned 'ac8by4', level, mov rax, [rsi]
        aligned 'acst', level, mov [rbx], eax
        aligned 'acpush', level, {dec rsp}, {push rax}
%assign level level + 3
%endrep
; Returns to an outer level with null data segments that have an RPL.
record 'outnull', PROT32, 0
reg rax, 3
reg rsi, SEL(3, 1)
reg rdi, SEL(3, 0)
reg rbp, CODE + 17
code
        mov ds, eax
        mov es, eax
        mov fs, eax
        push esi
        push dword USTACK
        push byte 2
        push edi
        push ebp
        iretd
        mov ebx, ds
        mov ecx, es
        mov edx, fs
done
record 'outnull', LONG, 0
reg rax, 3
reg r8, SEL(3, 1)
reg r9, SEL(3, 3)
reg r11, CODE + 21
code
        mov ds, eax
        mov es, eax
        mov fs, eax
        push r8
        push USTACK
        push 2
        push r9
        push r11
        iretq
        mov ebx, ds
        mov ecx, es
        mov edx, fs
done
