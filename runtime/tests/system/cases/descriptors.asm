; Loading data segment registers with every kind of descriptor.
%macro load_segment 8                   ; name, mode, cpl, rpl, access byte, flags, selector's register, base
record %1, %2, %3
preset GDT + SEL_FREE, desc(%8, 0xFFFFF, %5, %6)
reg rax, SEL_FREE | %4
code
        mov %7, ax
        mov [LOWDATA], %7
        mov ecx, SEL(%3, 1)
        mov %7, cx
done
%endmacro
%macro each_type 3                      ; mode, register, name
%assign t 0
%rep 32
%assign a ((t & 16) | (t & 15))
        load_segment %3, %1, 0, 0, a | 0x80, 0xC, %2, 0
        load_segment %3, %1, 3, 3, a | 0xE0, 0xC, %2, 0
        load_segment %3, %1, 3, 0, a | 0x80, 0xC, %2, 0
        load_segment %3, %1, 0, 3, a | 0xE0, 0xC, %2, 0
        load_segment %3, %1, 0, 0, a, 0xC, %2, 0
        load_segment %3, %1, 1, 1, a | 0xC0, 0x4, %2, 0x12345678
%assign t t + 1
%endrep
%endmacro
        each_type PROT32, es, 'es32'
        each_type PROT32, ss, 'ss32'
        each_type LONG, ds, 'ds64'
        each_type LONG, ss, 'ss64'
        each_type COMPAT, gs, 'gs32c'
; null and out-of-bounds selectors
%macro selector 5                       ; name, mode, cpl, register, selector
record %1, %2, %3
reg rax, %5
code
        mov %4, ax
        mov [LOWDATA], %4
        mov ecx, SEL(%3, 1)
        mov %4, cx
done
%endmacro
%macro odd_selectors 2
%assign s 0
%rep 4
        selector 'nullds', %1, %2, ds, s
        selector 'nullss', %1, %2, ss, s
        selector 'farout', %1, %2, es, 0x1F8 + s
        selector 'beyond', %1, %2, es, 0x200 + s
        selector 'ldtsel', %1, %2, es, 0x0C + s
        selector 'ldtout', %1, %2, ss, 0x84 + s
%assign s s + 1
%endrep
%endmacro
%assign m 0
%rep 4
        odd_selectors PROT32, m
        odd_selectors LONG, m
        odd_selectors COMPAT, m
%assign m m + 1
%endrep
