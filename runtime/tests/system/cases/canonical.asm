; Addresses that are not canonical, and what they raise.
%macro bad 3+                           ; name, register value in rbx/rsp/rbp, instructions
record %1, LONG, 3
reg rbx, %2
code
        %3
done
%endmacro
%macro each_bad 1
        bad 'ld', %1, mov rax, [rbx]
        bad 'st', %1, mov [rbx], rax
        bad 'rmw', %1, add [rbx], al
        bad 'byte', %1, mov al, [rbx]
        bad 'fs', %1, mov rax, [fs:rbx]
        bad 'gs', %1, mov [gs:rbx], rax
        bad 'ssov', %1, mov rax, [ss:rbx]
        bad 'jmp', %1, jmp rbx
        bad 'call', %1, call rbx
record 'rbp', LONG, 3
reg rbp, %1
code
        mov rax, [rbp]
done
record 'rbpst', LONG, 3
reg rbp, %1
code
        mov [rbp], rax
done
record 'push', LONG, 3
reg rsp, %1
code
        push rax
done
record 'pop', LONG, 3
reg rsp, %1
code
        pop rax
done
record 'callsp', LONG, 3
reg rsp, %1
code
        call $ + 5
done
record 'ret', LONG, 3
reg rbx, %1
code
        push rbx
        ret
done
record 'leave', LONG, 3
reg rbp, %1
code
        leave
done
record 'enter', LONG, 3
reg rsp, %1
code
        enter 8, 0
done
record 'sib', LONG, 3
reg rsi, %1
reg rax, 0
code
        mov rcx, [rax + rsi]
done
record 'movs', LONG, 3
reg rsi, %1
reg rdi, DATA
code
        movsb
done
record 'stos', LONG, 3
reg rdi, %1
reg rcx, 2
code
        rep stosq
done
record 'jmpm', LONG, 3
reg rbx, DATA
reg rax, %1
code
        mov [rbx], rax
        jmp [rbx]
done
record 'iret', LONG, 0
reg rbx, %1
code
        push SEL(0, 1)
        push DATA
        pushfq
        push SEL(0, 3)
        push rbx
        iretq
done
record 'iret3', LONG, 0
reg rbx, %1
code
        push SEL(3, 1)
        push DATA
        pushfq
        push SEL(3, 3)
        push rbx
        iretq
done
record 'iretsp', LONG, 0
reg rbx, %1
code
        push SEL(3, 1)
        push rbx
        pushfq
        push SEL(3, 3)
        push CODE + 28
        iretq
done
record 'lgdt', LONG, 0
reg rbx, %1
code
        lgdt [rbx]
done
record 'invlpg', LONG, 0
reg rbx, %1
code
        invlpg [rbx]
done
record 'wrfsb', LONG, 3
with cr4, 0x10000
reg rbx, %1
code
        wrfsbase rbx
        rdfsbase rax
done
record 'cmpx16', LONG, 3
reg rbx, %1
code
        cmpxchg16b [rbx]
done
record 'bt', LONG, 3
reg rbx, DATA
reg rax, %1
code
        bt [rbx], rax
done
record 'xlat', LONG, 3
reg rbx, %1
code
        xlatb
done
%assign msr 0
%rep 3
record 'wrmsr', LONG, 0
reg rax, (%1) & 0xFFFFFFFF
reg rdx, (%1) >> 32
reg rcx, 0xC0000100 + msr
code
        wrmsr
done
record 'wrstar', LONG, 0
reg rax, (%1) & 0xFFFFFFFF
reg rdx, (%1) >> 32
reg rcx, 0xC0000081 + msr
code
        wrmsr
        rdmsr
done
record 'wrsysen', LONG, 0
reg rax, (%1) & 0xFFFFFFFF
reg rdx, (%1) >> 32
reg rcx, 0x174 + msr
code
        wrmsr
        rdmsr
done
%assign msr msr + 1
%endrep
%endmacro
        each_bad 0x0000800000000000
        each_bad 0x00007FFFFFFFFFFF
        each_bad 0xFFFF7FFFFFFFFFFF
        each_bad 0x8000000000200000
        each_bad 0x00007FFFFFFFFFF9
        each_bad 0xFFFF800000200008
