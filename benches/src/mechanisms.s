# Loops that each lean on one mechanism of the translator, 64-bit guest code at level 0 unless said otherwise. At entry
# r12 = turns, rsi = a buffer, r13 = the same buffer at another linear address, rbx = an address without a page,
# rsp = a stack. HLT ends them at level 0, vector 0x61 at level 3.

.macro LOOP name
 .section .rodata.stele_bench, "a", @progbits
 .balign 16
 .globl stele_mechanism_\name
 .hidden stele_mechanism_\name
stele_mechanism_\name:
.endm
.macro LOOP_END name
 .org stele_mechanism_\name + 0x1800, 0xf4
 .text
.endm
.macro TURN
 dec r12
 jnz 2b
 hlt
.endm
# Leaves for level 3.
.macro TO_USER
 mov r14, rsp
 push 0x23
 push r14
 push 2
 push 0x1b
 lea rax, [rip + 1f]
 push rax
 iretq
1:
.endm
.macro USER_TURN
 dec r12
 jnz 2b
 int 0x61
.endm

# Seven accesses off one register.
LOOP span
2: mov rax, [rsi]
 add rax, [rsi + 8]
 mov [rsi + 16], rax
 add rdx, [rsi + 24]
 mov [rsi + 32], rdx
 xor rax, [rsi + 40]
 mov [rsi], rax
 TURN
LOOP_END span

# Four stack accesses.
LOOP stack
2: push rax
 push rdx
 pop rax
 pop rdx
 TURN
LOOP_END stack

# A load from another page each time, of 240.
LOOP pages
2: add rax, [rsi + rdi]
 add rdi, 0x1008
 cmp rdi, 0xf0000
 jb 3f
 xor edi, edi
3: TURN
LOOP_END pages

# One page read at one linear address and written at another.
LOOP alias
2: mov rax, [rsi]
 mov [r13 + 8], rax
 add rdx, [r13 + 16]
 mov [rsi + 24], rdx
 TURN
LOOP_END alias

# An entry of the TLB made anew.
LOOP refill
2: invlpg [rsi]
 add rax, [rsi]
 TURN
LOOP_END refill

# CR3 loaded, and two pages touched.
LOOP cr3
2: mov rdi, cr3
 mov cr3, rdi
 add rax, [rsi]
 add rax, [rsi + 0x1000]
 TURN
LOOP_END cr3

# An inner loop of 64 loads.
LOOP inner
2: mov ecx, 64
 xor edi, edi
3: add rax, [rsi + 8*rdi]
 inc rdi
 dec ecx
 jnz 3b
 TURN
LOOP_END inner

# Forward branches that are hardly ever taken.
LOOP sides
2: inc rax
 test eax, 0xfff
 jz 4f
3: test rdx, rdx
 js 5f
6: TURN
4: xor edx, edx
 jmp 3b
5: neg rdx
 jmp 6b
LOOP_END sides

# Direct jumps to another page and back.
LOOP cross_page
2: jmp 4f
3: TURN
 .org stele_mechanism_cross_page + 0x1400
4: inc rax
 jmp 3b
LOOP_END cross_page

# A call through a register that never changes.
LOOP call_same
 lea r8, [rip + 4f]
2: call r8
 TURN
4: inc rax
 ret
LOOP_END call_same

# Calls through a register to four functions in turns.
LOOP call_four
 lea r8, [rip + 4f]
2: mov r9d, r12d
 and r9d, 3
 shl r9d, 4
 add r9, r8
 call r9
 TURN
 .balign 16
4: inc rax
 ret
 .balign 16
 add rax, 3
 ret
 .balign 16
 dec rax
 ret
 .balign 16
 add rax, 5
 ret
LOOP_END call_four

# Calls three deep.
LOOP call_deep
2: call 4f
 TURN
4: call 5f
 inc rax
 ret
5: call 6f
 inc rax
 ret
6: inc rax
 ret
LOOP_END call_deep

# INT n and IRET.
LOOP int
2: int 0x60
 TURN
LOOP_END int

# SYSCALL from level 3, and SYSRET.
LOOP syscall
 TO_USER
2: syscall
 USER_TURN
LOOP_END syscall

# A page fault at level 3, and IRET behind the load of three bytes.
LOOP page_fault
 TO_USER
2: mov rax, [rbx]
 USER_TURN
LOOP_END page_fault

# A port nothing answers at.
LOOP port
2: in al, 0x80
 TURN
LOOP_END port

LOOP rdtsc
2: rdtsc
 TURN
LOOP_END rdtsc

LOOP cli_sti
2: cli
 sti
 TURN
LOOP_END cli_sti

LOOP pushf_popf
2: pushfq
 popfq
 TURN
LOOP_END pushf_popf

# An immediate that changes before it is used.
LOOP patch
2: mov [rip + 4f + 1], r12d
4: mov eax, 0x11111111
 add rdx, rax
 TURN
LOOP_END patch

# A store beside the code.
LOOP beside
2: mov [rip + 4f], r12d
 add eax, [rip + 4f]
 TURN
 .balign 64
4: .long 0
LOOP_END beside

# An opcode that changes to and fro: ADD and SUB.
LOOP revive
2: xor byte ptr [rip + 4f], 0x28
4: .byte 0x01, 0xd0
 inc edx
 TURN
LOOP_END revive

# 64 equal bytes compared.
LOOP cmps
2: mov ecx, 64
 mov rdi, r13
 push rsi
 repe cmpsb
 pop rsi
 add rax, rcx
 TURN
LOOP_END cmps

# 64 bytes searched for one that is not there.
LOOP scas
2: mov ecx, 64
 mov rdi, rsi
 mov al, 0x55
 repne scasb
 add rdx, rcx
 TURN
LOOP_END scas
