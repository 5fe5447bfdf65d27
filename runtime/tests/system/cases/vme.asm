; Virtual interrupts: CR4.VME in virtual-8086 mode, CR4.PVI at level 3. VIF is bit 19, VIP bit 20.
%macro vme 3-*                           ; name, flags, instructions
record %1, V86, 3
with cr4, 1
with flags, %2
code
        %rotate 2
        %rep %0 - 2
        %1
        %rotate 1
        %endrep
done
%endmacro
; POPF of an image
%macro vpop 3                            ; name, flags, image
        vme %1, %2, {push %3}, popf, pushf, {pop ax}
%endmacro
; IRET to the INT3 at offset 16
%macro viret 3                           ; name, flags, image
record %1, V86, 3
with cr4, 1
with flags, %2
code
        push %3
        push CODE / 16
        push 16
        iret
done
%endmacro
; INT 20h by the vector table, to offset 16; the bitmap lies below the I/O map, at 48h of the TSS
%macro vint 3                            ; name, flags, byte of the bitmap
record %1, V86, 3
with cr4, 1
with flags, %2
preset 0x80, ((CODE / 16) << 16) | 16
preset TSS + 0x4C, %3
code
        int 0x20
        times 14 int3
        pushf
        pop ax
        int3
done
%endmacro
%macro all_flags 1                       ; flags
        vme 'vcli', %1, cli
        vme 'vsti', %1, sti
        vme 'vclisti', %1, cli, sti
        vme 'vpushf', %1, pushf, {pop ax}
        vme 'vpushfd', %1, pushfd, {pop eax}
        vpop 'vpopf0', %1, 2
        vpop 'vpopfif', %1, 0x202
        vpop 'vpopftf', %1, 0x102
        vpop 'vpopfall', %1, 0x7CD7
        vme 'vpopfd', %1, {push dword 0x202}, popfd
        viret 'viret0', %1, 2
        viret 'viretif', %1, 0x202
        viret 'virettf', %1, 0x102
        viret 'viretall', %1, 0x7CD7
        vme 'viretd', %1, {push dword 0x202}, {push dword CODE / 16}, {push dword 16}, iretd
        vint 'vint', %1, 0
        vint 'vintgate', %1, 1
        vme 'vint3', %1, int3
        vme 'vhlt', %1, hlt
%endmacro
        all_flags 2
        all_flags 0x202
        all_flags 0x80002
        all_flags 0x100002
        all_flags 0x3002
        all_flags 0x3202
        all_flags 0x83002
        all_flags 0x103202
        all_flags 0x182002
record 'ivtlimit', V86, 3
with cr4, 1
preset 0x80, ((CODE / 16) << 16) | 16
preset TSS + 0x66, 0x20
code
        int 0x20
done
record 'mapfar', V86, 3
with cr4, 1
preset TSS + 0x66, 0xFFFF
code
        int 0x20
done
%macro pvi 4-*                           ; name, mode, flags, instructions
record %1, %2, 3
with cr4, 2
with flags, %3
code
        %rotate 3
        %rep %0 - 3
        %1
        %rotate 1
        %endrep
done
%endmacro
%macro pvi_flags 2                       ; mode, flags
        pvi 'pvicli', %1, %2, cli
        pvi 'pvisti', %1, %2, sti
        pvi 'pviint', %1, %2, {int 0x20}
%if %1 == LONG
        pvi 'pvipush', %1, %2, pushfq, {pop rax}
        pvi 'pvipop', %1, %2, {push 0x202}, popfq
%else
        pvi 'pvipush', %1, %2, pushfd, {pop eax}
        pvi 'pvipop', %1, %2, {push dword 0x202}, popfd
%endif
%endmacro
        pvi_flags PROT32, 2
        pvi_flags PROT32, 0x80202
        pvi_flags PROT32, 0x100002
        pvi_flags PROT32, 0x3002
        pvi_flags PROT32, 0x83002
        pvi_flags PROT32, 0x180002
        pvi_flags LONG, 2
        pvi_flags LONG, 0x80202
        pvi_flags LONG, 0x100002
        pvi_flags COMPAT, 0x80002
