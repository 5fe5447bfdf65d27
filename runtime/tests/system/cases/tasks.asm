; Task switches: jumps, calls and gates to task state segments of all kinds.
%macro task 6                           ; name, mode, cpl, rpl, descriptor, instruction (0 jump, 1 call)
record %1, %2, %3
preset GDT + SEL_TSS_B, %5
preset LOWDATA, (SEL_TSS_B | %4) << 32
code
%if %6
        call far dword [LOWDATA]
%else
        jmp far dword [LOWDATA]
%endif
done
%endmacro
%macro tasks 1
%assign i6 0
%rep 2
        task 'avail', %1, 0, 0, desc(TSS_B, 0x67, 0x89, 0), i6
        task 'busy', %1, 0, 0, desc(TSS_B, 0x67, 0x8B, 0), i6
        task 'absent', %1, 0, 0, desc(TSS_B, 0x67, 0x09, 0), i6
        task 'short', %1, 0, 0, desc(TSS_B, 0x66, 0x89, 0), i6
        task 'long', %1, 0, 0, desc(TSS_B, 0xFFFFF, 0x89, 0x8), i6
        task 'dpl3', %1, 3, 3, desc(TSS_B, 0x67, 0xE9, 0), i6
        task 'dpl0', %1, 3, 3, desc(TSS_B, 0x67, 0x89, 0), i6
        task 'rpl3', %1, 0, 3, desc(TSS_B, 0x67, 0x89, 0), i6
        task 'tss16', %1, 0, 0, desc(TSS16, 0x67, 0x81, 0), i6
        task 'tss16s', %1, 0, 0, desc(TSS16, 0x2A, 0x81, 0), i6
        task 'ldt', %1, 0, 0, desc(TSS_B, 0x67, 0x82, 0), i6
        task 'gate', %1, 0, 0, gate(SEL_TSS_B + 8, 0, 0x85, 0), i6
        task 'gate3', %1, 3, 3, gate(SEL_TSS_B + 8, 0, 0xE5, 0), i6
        task 'gatenp', %1, 0, 0, gate(SEL_TSS_B + 8, 0, 0x05, 0), i6
        task 'gatetss', %1, 3, 3, gate(SEL_TSS, 0, 0xE5, 0), i6
        task 'gatenull', %1, 3, 3, gate(0, 0, 0xE5, 0), i6
%assign i6 i6 + 1
%endrep
%endmacro
        tasks PROT32
        tasks COMPAT
; fields of the new task that cannot be loaded
%macro field 4                          ; name, offset, value, instruction
record %1, PROT32, 0
preset TSS_B + %2, %3
preset LOWDATA, SEL_TSS_B << 32
code
%if %4
        call far dword [LOWDATA]
%else
        jmp far dword [LOWDATA]
%endif
done
%endmacro
%assign i6 0
%rep 2
        field 'cs0', 76, SEL_DATA << 32, i6
        field 'csdata', 76, SEL_DATA | SEL_DATA << 32, i6
        field 'cs3', 76, SEL(3, 0) | SEL(3, 1) << 32, i6
        field 'cs3ss0', 76, SEL(3, 0) | SEL(0, 1) << 32, i6
        field 'ss0', 76, SEL_CODE32, i6
        field 'sscode', 76, SEL_CODE32 | SEL_CODE32 << 32, i6
        field 'ds0', 84, 0, i6
        field 'dstss', 84, SEL_TSS | SEL_DATA << 32, i6
        field 'dsout', 84, 0x300 | SEL_DATA << 32, i6
        field 'ldt', 96, SEL_LDT | 0x0068 << 48, i6
        field 'ldtbad', 96, SEL_DATA | 0x0068 << 48, i6
        field 'ldtnull', 96, 0x0068 << 48, i6
        field 'trap', 96, 0x0068 << 48 | 1 << 32, i6
        field 'vm', 36, 0x20002, i6
        field 'nt', 36, 0x4002, i6
        field 'tf', 36, 0x102, i6
        field 'eipout', 32, 0x10000 | 2 << 32, i6
%assign i6 i6 + 1
%endrep
