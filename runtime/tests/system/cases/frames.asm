; Data breakpoints on what calls, ENTER, PUSHA, interrupts and exceptions push. QEMU 7.2 stops with an assertion here.
%macro hw 6+                            ; name, mode, cpl, dr0, dr7, instructions
record %1, %2, %3
with dr0, %4
with dr7, %5
reg rbx, LOWDATA
reg rcx, 3
reg rsi, LOWDATA
reg rdi, LOWDATA + 0x100
code
        %6
        nop
done
%endmacro
%macro frames 3                         ; mode, cpl, bytes of a stack slot
        hw 'callbp', %1, %2, USTACK - (%3), 0x10002, {call $ + 5}
        hw 'enterbp', %1, %2, USTACK - (%3), 0x10002, {enter 8, 0}
        hw 'intown', %1, %2, USTACK - 3 * (%3), 0x10002, {int 0x20}
        hw 'intinner', %1, %2, STACK0 - 4 * (%3), 0x10002, {int 0x20}
        hw 'udinner', %1, %2, STACK0 - 2 * (%3), 0x10002, ud2
%if %1 != LONG
        hw 'pushabp', %1, %2, USTACK - 12, 0x10002, pusha
%endif
%endmacro
        frames PROT32, 0, 4
        frames PROT32, 3, 4
        frames COMPAT, 3, 4
        frames LONG, 0, 8
        frames LONG, 3, 8
