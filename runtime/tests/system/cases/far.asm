; Far jumps, calls and returns to every kind of descriptor.
%macro target 7                         ; name, mode, cpl, rpl, low, high, instruction (0 jump, 1 call, 2 return)
record %1, %2, %3
preset GDT + SEL_FREE, %5
preset GDT + SEL_FREE + 8, %6
preset LOWDATA, high(breakpoint) | ((SEL_FREE | %4) << 32)
code
%if %7 == 0
        jmp far dword [LOWDATA]
%elif %7 == 1
        call far dword [LOWDATA]
%else
        push dword SEL_FREE | %4
        push dword CODE + 16
        retf
%endif
done
%endmacro
%macro each_kind 3                      ; name, mode, instruction
%assign t 16
%rep 16
        target %1, %2, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xC), 0, %3
        target %1, %2, 3, 3, desc(0, 0xFFFFF, t | 0xE0, 0xC), 0, %3
        target %1, %2, 3, 3, desc(0, 0xFFFFF, t | 0x80, 0xC), 0, %3
        target %1, %2, 0, 3, desc(0, 0xFFFFF, t | 0xE0, 0xC), 0, %3
        target %1, %2, 3, 0, desc(0, 0xFFFFF, t | 0xE0, 0xC), 0, %3
        target %1, %2, 0, 0, desc(0, 0xFFFFF, t, 0xC), 0, %3
        target %1, %2, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xA), 0, %3
        target %1, %2, 3, 3, desc(0, 0xFFFFF, t | 0xE0, 0xA), 0, %3
        target %1, %2, 0, 0, desc(0, 0xFFFFF, t | 0x80, 0xE), 0, %3
        target %1, %2, 0, 0, desc(0, 0x00FFF, t | 0x80, 0x4), 0, %3
%assign t t + 1
%endrep
; system descriptors: gates lead to code of level 0 and of the record's level
%assign t 0
%rep 16
%if t != 9 && t != 11 && t != 1 && t != 3
        target %1, %2, 0, 0, gate(SEL(0, 0), high(breakpoint), t | 0x80, 0), 0, %3
        target %1, %2, 3, 3, gate(SEL(0, 0), high(breakpoint), t | 0xE0, 0), 0, %3
        target %1, %2, 3, 3, gate(SEL(3, 0), high(breakpoint), t | 0xE0, 0), 0, %3
        target %1, %2, 3, 3, gate(SEL(0, 3), high(breakpoint), t | 0xE0, 0), 0, %3
        target %1, %2, 3, 3, gate(SEL(0, 0), high(breakpoint), t | 0x80, 0), 0, %3
        target %1, %2, 0, 0, gate(SEL(0, 3), high(breakpoint), t | 0x80, 0), 0, %3
        target %1, %2, 0, 0, gate(SEL(0, 0), high(breakpoint), t, 0), 0, %3
        target %1, %2, 0, 0, gate(SEL(0, 1), high(breakpoint), t | 0x80, 0), 0, %3
        target %1, %2, 0, 0, gate(0, high(breakpoint), t | 0x80, 0), 0, %3
        target %1, %2, 3, 3, gate(SEL(1, 0), high(breakpoint), t | 0xE0, 2), 0, %3
%endif
%assign t t + 1
%endrep
%endmacro
        each_kind 'jmp32', PROT32, 0
        each_kind 'call32', PROT32, 1
        each_kind 'ret32', PROT32, 2
        each_kind 'jmpc', COMPAT, 0
        each_kind 'callc', COMPAT, 1
