; SYSCALL, SYSRET, SYSENTER, SYSEXIT, INT and IRET in long mode.
%macro sys 3+                           ; name, cpl, instructions
record %1, LONG, %2
with efer, 1
reg rcx, CODE + 28
reg r11, 0x246
reg rdx, DATA
code
        %3
done
%endmacro
        sys 'sysret0', 0, o64 sysret
        sys 'sysret32', 0, sysret
        sys 'sysret3', 3, o64 sysret
        sys 'syscall3', 3, syscall
        sys 'sysexit', 0, sysexit
        sys 'sysexitq', 0, o64 sysexit
        sys 'sysexit3', 3, sysexit
        sys 'sysenter', 0, sysenter
        sys 'sysenter3', 3, sysenter
        sys 'iret', 3, iretq
record 'nosce', LONG, 0
code
        syscall
done
record 'nosce2', LONG, 0
code
        sysret
done
record 'star', LONG, 0
with efer, 1
reg rdx, SEL(3, 0) << 16 | SEL_CODE64
code
        mov ecx, 0xC0000081
        wrmsr
        inc ecx
        mov eax, CODE + 28
        xor edx, edx
        wrmsr
        syscall
        times 4 nop
done
record 'compat', COMPAT, 3
with efer, 1
code
        syscall
done
record 'compaten', COMPAT, 3
code
        sysenter
done
record 'prot', PROT32, 0
code
        sysenter
done
record 'protcs', PROT32, 0
reg rcx, 0x174
reg rax, SEL(0, 0)
reg rdx, 0
code
        wrmsr
        inc ecx
        mov eax, USTACK
        wrmsr
        inc ecx
        mov eax, CODE + 28
        wrmsr
        sysenter
        times 4 nop
done
record 'noncanon', LONG, 0
with efer, 1
reg rcx, 0x0000800000000000
reg r11, 2
code
        o64 sysret
done
; IRETQ to every kind of CS and SS
%macro iret_to 3                        ; cs, ss, flags
record 'iretq', LONG, 0
preset GDT + SEL_FREE, desc(0, 0xFFFFF, 0x9F, 0xA)
preset GDT + SEL_FREE + 8, desc(0, 0xFFFFF, 0xFB, 0xE)
reg r8, %1
reg r9, %2
reg r10, %3
reg r11, CODE + 20
code
        push r9
        push USTACK
        push r10
        push r8
        push r11
        iretq
        times 12 nop
done
%endmacro
%assign n 0
%rep 4
%assign k 0
%rep 4
        iret_to SEL(n, k), SEL(n, 1), 2
        iret_to SEL(n, k), 0, 2
        iret_to SEL(n, k), 3, 2
        iret_to SEL(n, k), SEL((n + 1) & 3, 1), 2
        iret_to SEL(n, k) & ~3, SEL(n, 1), 2
        iret_to SEL(n, k) | 3, SEL(3, 1), 2
%assign k k + 1
%endrep
%assign n n + 1
%endrep
%assign b 0
%rep 22
        iret_to SEL(3, 3), SEL(3, 1), 2 | 1 << b
        iret_to SEL(0, 3), SEL(0, 1), 2 | 1 << b
%assign b b + 1
%endrep
        iret_to SEL_FREE, SEL(0, 1), 2
        iret_to SEL_FREE + 8 | 3, SEL(3, 1), 2
        iret_to 0, SEL(0, 1), 2
        iret_to 0x1F8, SEL(0, 1), 2
        iret_to 0x200, SEL(0, 1), 2
record 'iretd', LONG, 0
reg r8, SEL(0, 1)
reg r9, 2 | (USTACK << 32)
reg r10, (CODE + 16) | (SEL(0, 3) << 32)
code
        push r8
        push r9
        push r10
        iretd
        times 16 nop
done
record 'iretnt', LONG, 0
with flags, 0x4002
code
        iretq
done
; the IDT: gate types and levels, IST, selectors
%macro vector 5                         ; name, cpl, low, high, instructions
record %1, LONG, %2
preset IDT + 0x20 * 16, 0
reg rbx, IDT + 0x20 * 16
reg rax, %3
reg rdx, %4
code
%if %2 == 0
        mov [rbx], rax
        mov [rbx + 8], rdx
%endif
        int 0x20
done
%endmacro
%assign t 0
%rep 32
        vector 'gate', 0, gate(SEL_CODE64, high(stubs64 + 0x20 * 8), t | 0x80, 0), 0, 0
        vector 'gatenp', 0, gate(SEL_CODE64, high(stubs64 + 0x20 * 8), t, 0), 0, 0
        vector 'gateist', 0, gate(SEL_CODE64, high(stubs64 + 0x20 * 8), t | 0xE0, 1), 0, 0
        vector 'gatecs', 0, gate(SEL(0, 0), high(stubs64 + 0x20 * 8), t | 0x80, 0), 0, 0
        vector 'gatenull', 0, gate(0, high(stubs64 + 0x20 * 8), t | 0x80, 0), 0, 0
        vector 'gate3', 0, gate(SEL(3, 3), high(stubs64 + 0x20 * 8), t | 0x80, 0), 0, 0
        vector 'gatebad', 0, gate(SEL_CODE64, high(stubs64 + 0x20 * 8), t | 0x80, 0), 0x8000, 0
%assign t t + 1
%endrep
%macro int_from 2
record 'int', LONG, %2
code
        int %1
done
%endmacro
%assign v 0
%rep 48
        int_from v, 3
        int_from v, 0
%assign v v + 5
%endrep
