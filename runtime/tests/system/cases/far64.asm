; The same in 64-bit code: m16:64 and m16:32 operands, 16-byte gates.
%macro target 7                         ; name, cpl, rpl, low, high, instruction, wide operand
record %1, LONG, %2
preset GDT + SEL_FREE, %4
preset GDT + SEL_FREE + 8, %5
%if %7
preset LOWDATA + 8, SEL_FREE | %3
reg rdx, high(breakpoint)
%else
preset LOWDATA, CODE | 0x18 | ((SEL_FREE | %3) << 32)
%endif
code
        mov ebx, LOWDATA
%if %7
        mov [rbx], rdx
%if %6 == 0
        jmp far qword [rbx]
%elif %6 == 1
        call far qword [rbx]
%else
        push SEL_FREE | %3
        push rdx
        o64 retf
%endif
%else
%if %6 == 0
        jmp far dword [rbx]
%elif %6 == 1
        call far dword [rbx]
%else
        push SEL_FREE | %3
        push CODE + 0x1E
        o64 retf
%endif
%endif
done
%endmacro
%macro each_kind 3                      ; name, instruction, wide
%assign t 16
%rep 16
        target %1, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xC), 0, %2, %3
        target %1, 3, 3, desc(0, 0xFFFFF, t | 0xE0, 0xA), 0, %2, %3
        target %1, 3, 3, desc(0, 0xFFFFF, t | 0x80, 0xA), 0, %2, %3
        target %1, 0, 3, desc(0, 0xFFFFF, t | 0xE0, 0xA), 0, %2, %3
        target %1, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xA), 0, %2, %3
        target %1, 0, 0, desc(0, 0xFFFFF, t, 0xA), 0, %2, %3
        target %1, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xE), 0, %2, %3
        target %1, 0, 0, desc(0, 0x00FFF, t | 0x80, 0x2), 0, %2, %3
%assign t t + 1
%endrep
%assign t 0
%rep 16
        target %1, 0, 0, gate(SEL(0, 3), high(breakpoint), t | 0x80, 0), 0, %2, %3
        target %1, 3, 3, gate(SEL(0, 3), high(breakpoint), t | 0xE0, 0), 0, %2, %3
        target %1, 3, 3, gate(SEL(1, 3), high(breakpoint), t | 0xE0, 0), 0, %2, %3
        target %1, 3, 3, gate(SEL(0, 0), high(breakpoint), t | 0xE0, 0), 0, %2, %3
        target %1, 0, 0, gate(SEL(0, 3), high(breakpoint), t | 0x80, 0), 0x8000, %2, %3
        target %1, 0, 0, gate(SEL(0, 3), high(breakpoint), t | 0x80, 0), 0x0000090000000000, %2, %3
        target %1, 0, 0, gate(SEL(0, 3), high(breakpoint), t, 0), 0, %2, %3
%assign t t + 1
%endrep
%endmacro
        each_kind 'jmpq', 0, 1
        each_kind 'callq', 1, 1
        each_kind 'retq', 2, 1
        each_kind 'jmpd', 0, 0
        each_kind 'calld', 1, 0
