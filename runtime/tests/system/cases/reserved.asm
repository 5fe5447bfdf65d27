; Reserved bits of control registers. QEMU 7.2 hangs or loses its way on these: compared with Bochs alone.
%assign b 0
%rep 32
%if b != 0
        cr 'cr4bit', PROT32, 1 << b, {mov cr4, eax}, {mov ebx, cr4}
%endif
        cr 'cr4long', LONG, 0x20 ^ (1 << b), {mov cr4, rax}, {mov rbx, cr4}
        cr 'cr4high', LONG, 0x20 | (1 << (b + 32)), {mov cr4, rax}
%if b >= 20
        cr 'cr3high', LONG, PML4 | (1 << (b + 32)), {mov cr3, rax}
%endif
%assign b b + 1
%endrep
        cr 'cr0pe', LONG, 0x80010010, {mov cr0, rax}
        cr 'cr0pg', LONG, 0x00010011, {mov cr0, rax}
        cr 'cr3pcid', LONG, PML4 | (1 << 63), {mov cr3, rax}
