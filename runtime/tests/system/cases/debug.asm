; Single steps, hardware breakpoints and shadows.
%macro step 4+                          ; name, mode, cpl, instructions
record %1, %2, %3
with flags, 0x102
reg rcx, 3
reg rsi, LOWDATA
reg rdi, LOWDATA + 0x100
code
        %4
        nop
        nop
done
%endmacro
%macro steps 2
        step 'nop', %1, %2, nop
        step 'push', %1, %2, push bx
        step 'popf', %1, %2, pushf
        step 'repmovs', %1, %2, rep movsb
        step 'rep0', %1, %2, {repne scasb}
        step 'int3', %1, %2, int3
        step 'icebp', %1, %2, db 0xF1
        step 'int80', %1, %2, int 0x20
        step 'loop', %1, %2, loop $
        step 'jmp', %1, %2, jmp $ + 3
        step 'pushf', %1, %2, pushf
        step 'ud', %1, %2, ud2
        step 'sti', %1, %2, sti
        step 'cli', %1, %2, cli
        step 'div', %1, %2, {div cl}
%endmacro
        steps REAL, 0
        steps PROT32, 0
        steps PROT32, 3
        steps PROT16, 0
        steps V86, 3
        steps COMPAT, 3
        steps LONG, 0
        steps LONG, 3
; The last iteration completes the insn: one trap, behind it.
%macro last 4+                          ; name, mode, cpl, instructions
record %1, %2, %3
with flags, 0x102
reg rcx, 1
reg rsi, LOWDATA
reg rdi, LOWDATA + 0x100
code
        %4
        nop
        nop
done
%endmacro
%macro lasts 2
        last 'lastmovs', %1, %2, rep movsb
        last 'laststos', %1, %2, rep stosw
        last 'lastscas', %1, %2, repne scasb
        last 'lastlods', %1, %2, rep lodsb
%endmacro
        lasts REAL, 0
        lasts PROT32, 3
        lasts LONG, 3
%macro shadow 3+
record %1, %2, 0
with flags, 0x102
reg rax, SEL_DATA
code
        %3
        nop
        nop
done
%endmacro
        shadow 'movss', PROT32, mov ss, ax
        shadow 'movss', LONG, mov ss, ax
        shadow 'movds', PROT32, mov ds, ax
        shadow 'popss', PROT32, {db 0x6A, SEL_DATA, 0x17}
        shadow 'lss', PROT32, {lss esp, [LOWDATA]}
record 'movssr', REAL, 0
with flags, 0x102
reg rax, 0x1000
code
        mov ss, ax
        nop
        nop
done
record 'settf', PROT32, 0
code
        push dword 0x102
        popfd
        nop
        nop
done
record 'settf', LONG, 3
code
        push 0x102
        popfq
        nop
        nop
done
record 'cleartf', LONG, 3
with flags, 0x102
code
        push 2
        popfq
        nop
done
record 'irettf', LONG, 0
reg r8, SEL(3, 1)
reg r9, SEL(3, 3)
reg r11, CODE + 20
code
        push r8
        push USTACK
        push 0x102
        push r9
        push r11
        iretq
        times 12 nop
done
; execution and data breakpoints: DR0 is 32 bits here; len and kind in DR7
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
%macro hardware 2
        hw 'exec0', %1, %2, CODE, 2, nop
        hw 'exec1', %1, %2, CODE + 1, 2, {db 0x90, 0x90}
        hw 'exec1l', %1, %2, CODE + 1, 1, {db 0x90, 0x90}
        hw 'execmid', %1, %2, CODE + 1, 2, {db 0xB0, 1}
        hw 'execoff', %1, %2, CODE, 0, nop
%if %1 == REAL || %1 == V86
%define base si
%else
%define base esi
%endif
        hw 'write', %1, %2, LOWDATA, 0x10002, mov [base], al
        hw 'write4', %1, %2, LOWDATA, 0xD0002, mov [base + 3], al
        hw 'wmiss', %1, %2, LOWDATA, 0xD0002, mov [base + 4], al
        hw 'wread', %1, %2, LOWDATA, 0x10002, mov al, [base]
        hw 'rw', %1, %2, LOWDATA, 0x30002, mov al, [base]
        hw 'rwlen2', %1, %2, LOWDATA, 0x70002, mov ax, [base + 1]
        hw 'rwlen2o', %1, %2, LOWDATA + 1, 0x70002, mov ax, [base]
        hw 'len8', %1, %2, LOWDATA, 0xB0002, mov al, [base + 7]
        hw 'rmw', %1, %2, LOWDATA, 0x10002, inc byte [base]
        hw 'movs', %1, %2, LOWDATA + 0x101, 0x10002, {rep movsb}
        hw 'pushbp', %1, %2, LOWDATA, 0x10002, {push ax}
%endmacro
        hardware PROT32, 0
        hardware PROT32, 3
        hardware COMPAT, 3
        hardware LONG, 0
        hardware LONG, 3
; What DR6 says of an earlier #DB: its breakpoints go, the rest stays.
%macro stale 3                           ; mode, dr0, dr7
record 'stalebp', %1, 0
with dr0, %2
with dr7, %3
reg rax, 0xFFFF6FFE
reg rbx, LOWDATA
code
%if %1 == LONG
        mov dr6, rax
        mov al, [rbx]
%else
        mov dr6, eax
        mov al, [ebx]
%endif
        nop
done
%endmacro
        stale PROT32, CODE + 3, 2
        stale PROT32, LOWDATA, 0x30002
        stale LONG, CODE + 3, 2
        stale LONG, LOWDATA, 0x30002
record 'stalestep', PROT32, 0
with flags, 0x102
reg rax, 0xFFFF0FFF
code
        mov dr6, eax
        nop
done
; A data breakpoint that a load of SS keeps waiting: the INT1 behind it takes it along, other ways into the system meet it there.
%macro held 3                            ; mode, cpl, SS
%xdefine ss_held %3
%macro hold 3+
record %1, %2, %3
with dr0, LOWDATA
with dr7, 0x30002
reg rbx, LOWDATA
preset LOWDATA, ss_held
code
        mov ss, [rBX_HELD]
%endmacro
%if %1 == LONG
%define rBX_HELD rbx
%else
%define rBX_HELD ebx
%endif
        hold 'heldbp', %1, %2
        nop
        nop
done
        hold 'heldicebp', %1, %2
        db 0xF1
        nop
done
        hold 'heldprefix', %1, %2
        db 0x2E, 0x2E, 0xF1
        nop
done
        hold 'heldint3', %1, %2
        int3
        nop
done
        hold 'heldint', %1, %2
        int 0x20
        nop
done
        hold 'heldud', %1, %2
        ud2
        nop
done
%unmacro hold 3+
%endmacro
        held PROT32, 0, SEL(0, 1)
        held PROT32, 3, SEL(3, 1)
        held COMPAT, 3, SEL(3, 1)
        held LONG, 0, SEL(0, 1)
        held LONG, 3, SEL(3, 1)
%macro dr 4-*                            ; name, mode, cpl, instructions
record %1, %2, %3
reg rax, 0xFFFFFFFF
reg rbx, 0x400
code
        %rotate 3
        %rep %0 - 3
        %1
        %rotate 1
        %endrep
done
%endmacro
%assign n 0
%rep 2
        dr 'rddr6', LONG, 3 * n, {mov rcx, dr6}
        dr 'wrdr6', LONG, 3 * n, {mov dr6, rax}
        dr 'wrdr7', LONG, 3 * n, {mov dr7, rax}
        dr 'rddr7', LONG, 3 * n, {mov rcx, dr7}
        dr 'dr4', LONG, 3 * n, {mov rcx, dr4}
        dr 'dr4de', PROT32, 3 * n, {mov ecx, dr4}
        dr 'dr6hi', LONG, 3 * n, {mov rax, -1}, {mov dr6, rax}
        dr 'dr7hi', LONG, 3 * n, {mov rax, -1}, {mov dr7, rax}
        dr 'dr0', LONG, 3 * n, {mov dr0, rax}, {mov rcx, dr0}
        dr 'gd', LONG, 3 * n, {mov eax, 0x2400}, {mov dr7, rax}, {mov rcx, dr0}
%assign n n + 1
%endrep
