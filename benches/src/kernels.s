# Loops for the exec benches. Each body is a macro, expanded once as 16- or 32-bit guest code and once as host code, so
# that both run the same instructions. Registers at entry: eax ebx edx ebp any, ecx (rep: edx) = count, esi, edi =
# buffers or offsets as the kernel says.

# A guest image of exactly 256 bytes, loaded at 0x8000 and ended by HLT.
.macro GUEST name, bits
 .section .rodata.stele_bench, "a", @progbits
 .balign 16
 .globl \name
 .hidden \name
\name:
 .code\bits
.endm
.macro GUEST_END name, size=256
 hlt
 .org \name + \size, 0xf4
 .code64
 .text
.endm

# A host function (registers: *mut [u64; 8]) in the order of guest register numbers; rsp's place is not used.
.macro NATIVE name
 .text
 .balign 64
 .globl \name
 .hidden \name
\name:
 pushq %rbx
 pushq %rbp
 pushq %r12
 movq %rdi, %r12
 movq 0(%r12), %rax
 movq 8(%r12), %rcx
 movq 16(%r12), %rdx
 movq 24(%r12), %rbx
 movq 40(%r12), %rbp
 movq 48(%r12), %rsi
 movq 56(%r12), %rdi
.endm
.macro NATIVE_END
 movq %rax, 0(%r12)
 popq %r12
 popq %rbp
 popq %rbx
 ret
.endm

# 12 insns
.macro ALU s, a, b, d, i, base, index
2: add\s %\b, %\a
 xor\s %\a, %\d
 rol\s $5, %\a
 sub\s %\d, %\b
 lea\s 17(%\base,%\index), %\i
 and\s %\d, %\i
 or\s $1, %\b
 imul\s $7, %\d, %\d
 shr\s $3, %\i
 adc\s %\i, %\a
 decl %ecx
 jnz 2b
.endm

# 8 insns: two loads, a store, a read-modify-write
.macro MEM s, a, base, index, i
2: mov\s (%\base,%\index), %\a
 add\s 4(%\base,%\index), %\a
 mov\s %\a, 8(%\base,%\index)
 add\s %\a, 12(%\base,%\index)
 add\s $16, %\i
 and\s $0xff0, %\i
 decl %ecx
 jnz 2b
.endm

# 8 insns
.macro CALLS s, p, a, b, d
2: call 3f
 add\s %\b, %\a
 decl %ecx
 jnz 2b
 jmp 4f
3: push %\p
 add\s %\d, %\b
 pop %\p
 ret
4:
.endm

# 6 insns: a call through a register that changes every time
.macro INDIRECT s, x, y, a, d
2: call *%\x
 xchg %\x, %\y
 decl %ecx
 jnz 2b
 jmp 4f
3: add\s %\d, %\a
 ret
5: xor\s %\d, %\a
 ret
4:
.endm

# 10 insns: loads, a store, singles and integers
.macro SSE base, index, i
 xorps %xmm1, %xmm1
 xorps %xmm2, %xmm2
2: movups (%\base,%\index), %xmm0
 addps 16(%\base,%\index), %xmm0
 mulps %xmm0, %xmm1
 paddd %xmm0, %xmm2
 pxor %xmm1, %xmm2
 movups %xmm2, 32(%\base,%\index)
 add $16, %\i
 and $0xff0, %\i
 decl %ecx
 jnz 2b
.endm

# 4 insns, one of them a call out of generated code with vector registers in use
.macro SSEHELPER base, index
 xorps %xmm0, %xmm0
 xorps %xmm1, %xmm1
2: addps %xmm1, %xmm0
 stmxcsr (%\base,%\index)
 decl %ecx
 jnz 2b
.endm

# 8 insns
.macro X87 base, index, i
 fninit
2: fldl (%\base,%\index)
 faddl 8(%\base,%\index)
 fmul %st(0), %st
 fstpl 16(%\base,%\index)
 add $16, %\i
 and $0xff0, %\i
 decl %ecx
 jnz 2b
.endm

.macro MOVS insn, count, src, dst, s, d, c
2: mov %\src, %\s
 mov %\dst, %\d
 mov $\count, %\c
 rep \insn
 decl %edx
 jnz 2b
.endm
.macro STOS insn, count, dst, d, c
2: mov %\dst, %\d
 mov $\count, %\c
 rep \insn
 decl %edx
 jnz 2b
.endm

GUEST stele_bench_alu16, 16
 ALU w, ax, bx, dx, di, bx, si
GUEST_END stele_bench_alu16
GUEST stele_bench_alu32, 32
 ALU l, eax, ebx, edx, edi, ebx, esi
GUEST_END stele_bench_alu32
NATIVE stele_native_alu16
 ALU w, ax, bx, dx, di, rbx, rsi
NATIVE_END
NATIVE stele_native_alu32
 ALU l, eax, ebx, edx, edi, rbx, rsi
NATIVE_END

GUEST stele_bench_mem16, 16
 MEM w, ax, bx, si, si
GUEST_END stele_bench_mem16
GUEST stele_bench_mem32, 32
 MEM l, eax, ebx, esi, esi
GUEST_END stele_bench_mem32
NATIVE stele_native_mem16
 MEM w, ax, rbx, rsi, si
NATIVE_END
NATIVE stele_native_mem32
 MEM l, eax, rbx, rsi, esi
NATIVE_END

GUEST stele_bench_call16, 16
 CALLS w, bp, ax, bx, dx
GUEST_END stele_bench_call16
GUEST stele_bench_call32, 32
 CALLS l, ebp, eax, ebx, edx
GUEST_END stele_bench_call32
NATIVE stele_native_call16
 CALLS w, rbp, ax, bx, dx
NATIVE_END
NATIVE stele_native_call32
 CALLS l, rbp, eax, ebx, edx
NATIVE_END

GUEST stele_bench_indirect16, 16
 movw $(3f - stele_bench_indirect16 + 0x8000), %si
 movw $(5f - stele_bench_indirect16 + 0x8000), %di
 INDIRECT w, si, di, ax, dx
GUEST_END stele_bench_indirect16
GUEST stele_bench_indirect32, 32
 movl $(3f - stele_bench_indirect32 + 0x8000), %esi
 movl $(5f - stele_bench_indirect32 + 0x8000), %edi
 INDIRECT l, esi, edi, eax, edx
GUEST_END stele_bench_indirect32
NATIVE stele_native_indirect16
 leaq 3f(%rip), %rsi
 leaq 5f(%rip), %rdi
 INDIRECT w, rsi, rdi, ax, dx
NATIVE_END
NATIVE stele_native_indirect32
 leaq 3f(%rip), %rsi
 leaq 5f(%rip), %rdi
 INDIRECT l, rsi, rdi, eax, edx
NATIVE_END

GUEST stele_bench_sse32, 32
 SSE ebx, esi, esi
GUEST_END stele_bench_sse32
NATIVE stele_native_sse32
 SSE rbx, rsi, esi
NATIVE_END

GUEST stele_bench_ssehelper32, 32
 SSEHELPER ebx, esi
GUEST_END stele_bench_ssehelper32
NATIVE stele_native_ssehelper32
 SSEHELPER rbx, rsi
NATIVE_END

GUEST stele_bench_x8732, 32
 X87 ebx, esi, esi
GUEST_END stele_bench_x8732
NATIVE stele_native_x8732
 X87 rbx, rsi, esi
NATIVE_END

GUEST stele_bench_movs16, 16
 MOVS movsw, 2048, bx, bp, si, di, cx
GUEST_END stele_bench_movs16
GUEST stele_bench_movs32, 32
 MOVS movsl, 1024, ebx, ebp, esi, edi, ecx
GUEST_END stele_bench_movs32
NATIVE stele_native_movs16
 MOVS movsw, 2048, rbx, rbp, rsi, rdi, rcx
NATIVE_END
NATIVE stele_native_movs32
 MOVS movsl, 1024, rbx, rbp, rsi, rdi, rcx
NATIVE_END

GUEST stele_bench_stos16, 16
 STOS stosw, 2048, bp, di, cx
GUEST_END stele_bench_stos16
GUEST stele_bench_stos32, 32
 STOS stosl, 1024, ebp, edi, ecx
GUEST_END stele_bench_stos32
NATIVE stele_native_stos16
 STOS stosw, 2048, rbp, rdi, rcx
NATIVE_END
NATIVE stele_native_stos32
 STOS stosl, 1024, rbp, rdi, rcx
NATIVE_END

GUEST stele_bench_short16, 16
 MOVS movsb, 16, bx, bp, si, di, cx
GUEST_END stele_bench_short16
GUEST stele_bench_short32, 32
 MOVS movsb, 16, ebx, ebp, esi, edi, ecx
GUEST_END stele_bench_short32
NATIVE stele_native_short16
 MOVS movsb, 16, rbx, rbp, rsi, rdi, rcx
NATIVE_END
NATIVE stele_native_short32
 MOVS movsb, 16, rbx, rbp, rsi, rdi, rcx
NATIVE_END

# Straight code for the translate bench: 256 blocks of 8 insns, run once.
GUEST stele_bench_cold32, 32
 .rept 256
 movl 4(%ebx), %eax
 addl %eax, %edx
 leal 3(%edx,%eax,2), %esi
 movl %esi, 8(%ebx)
 xorl %esi, %eax
 cmpl $100, %eax
 movzbl %al, %edi
 jne 2f
2:
 .endr
GUEST_END stele_bench_cold32, 8192
