; A static x86-64 Linux program that writes a log of x87, SSE, AVX and bit arithmetic to standard output.
;
; Each line: operation, result, status (MXCSR, x87 status word or arithmetic flags). Operands come from a fixed
; generator that mixes special values with random bits, and the rounding mode changes with every round. The
; log of the host CPU is what a guest has to reproduce bit for bit.
;
;   nasm -f bin arith.asm -o arith && chmod +x arith && ./arith | sha256sum
;
; -DROUNDS=n: rounds (default gives about two million lines).

%ifndef ROUNDS
%define ROUNDS 6700
%endif

bits 64
org 0x400000

ehdr:   db 0x7F, 'ELF', 2, 1, 1, 0
        times 8 db 0
        dw 2, 62
        dd 1
        dq _start, phdr - $$, 0
        dd 0
        dw 64, 56, 1, 0, 0, 0
phdr:   dd 1, 7
        dq 0, $$, $$, filesize, filesize + BSS, 0x1000

BUFFER equ 0x10000
BSS    equ BUFFER + 0x1000

; ---- operations: a routine each, and an entry {routine, name, bytes of result}

%assign ops 0
%macro entry 3                          ; name, bytes of result, kind of status
        [section .table]
        dq %%code
        db %2, %3, 0, 0, 0, 0, 0, 0
%%name: db %1
        times 16 - ($ - %%name) db ' '
        __?SECT?__
%%code:
%assign ops ops + 1
%endmacro

%define MX 0                            ; status: MXCSR
%define FS 1                            ; x87 status word
%define FL 2                            ; flags

%macro sse 1
        entry %str(%1), 16, MX
        movups xmm0, [rbx]
        movups xmm1, [rbx + 32]
        %1 xmm0, xmm1
        movups [rbp], xmm0
        ret
%endmacro
%macro sse_imm 2
        entry %str(%1), 16, MX
        movups xmm0, [rbx]
        movups xmm1, [rbx + 32]
        %1 xmm0, xmm1, %2
        movups [rbp], xmm0
        ret
%endmacro
%macro sse_shift 2
        entry %str(%1), 16, MX
        movups xmm0, [rbx]
        %1 xmm0, %2
        movups [rbp], xmm0
        ret
%endmacro
%macro compare 1
        entry %str(%1), 16, FL
        movups xmm0, [rbx]
        movups xmm1, [rbx + 32]
        %1 xmm0, xmm1
        pushfq
        pop rax
        ret
%endmacro
%macro to_int 2                         ; instruction, register
        entry %str(%1), 8, MX
        movups xmm1, [rbx + 32]
        xor eax, eax
        %1 %2, xmm1
        mov [rbp], rax
        ret
%endmacro
%macro from_int 2
        entry %str(%1), 16, MX
        movups xmm0, [rbx]
        mov rax, [rbx + 32]
        %1 xmm0, %2
        movups [rbp], xmm0
        ret
%endmacro
%macro mmx 1
        entry %str(%1), 8, MX
        movq mm0, [rbx]
        movq mm1, [rbx + 32]
        %1 mm0, mm1
        movq [rbp], mm0
        emms
        ret
%endmacro
%macro avx 1
        entry %str(%1), 32, MX
        vmovups ymm0, [rbx]
        %1 ymm2, ymm0, [rbx + 32]
        vmovups [rbp], ymm2
        ret
%endmacro
%macro avx_one 1
        entry %str(%1), 32, MX
        %1 ymm2, [rbx + 32]
        vmovups [rbp], ymm2
        ret
%endmacro
%macro avx_imm 2
        entry %str(%1), 32, MX
        vmovups ymm0, [rbx]
        %1 ymm9, ymm0, [rbx + 32], %2
        vmovups [rbp], ymm9
        ret
%endmacro
%macro fma 1
        entry %str(%1), 32, MX
        vmovups ymm0, [rbx]
        vmovups ymm1, [rbx + 32]
        %1 ymm0, ymm1, [rbx + 64]
        vmovups [rbp], ymm0
        ret
%endmacro
%macro fma_scalar 1
        entry %str(%1), 32, MX
        vmovups ymm10, [rbx]
        vmovups ymm11, [rbx + 32]
        vmovups ymm12, [rbx + 64]
        %1 xmm10, xmm11, xmm12
        vmovups [rbp], ymm10
        ret
%endmacro
%macro x87_two 1                        ; st0 op st1, popping
        entry %str(%1), 16, FS
        fld tword [rbx]
        fld tword [rbx + 32]
        %1
        fstp tword [rbp]
        ret
%endmacro
%macro x87_keep 1                       ; st0 op st1, both stay
        entry %str(%1), 32, FS
        fld tword [rbx]
        fld tword [rbx + 32]
        %1
        fstp tword [rbp]
        fstp tword [rbp + 16]
        ret
%endmacro
%macro x87_one 1
        entry %str(%1), 16, FS
        fld tword [rbx]
        %1
        fstp tword [rbp]
        ret
%endmacro
%macro x87_split 1                      ; one in, two out
        entry %str(%1), 32, FS
        fld tword [rbx]
        %1
        fstp tword [rbp]
        fstp tword [rbp + 16]
        ret
%endmacro
%macro x87_mem 2                        ; instruction, memory operand
        entry %str(%1), 16, FS
        fld tword [rbx]
        %1 %2 [rbx + 32]
        fstp tword [rbp]
        ret
%endmacro
%macro x87_store 2
        entry %str(%1), 16, FS
        fld tword [rbx]
        %1 %2 [rbp]
        ret
%endmacro
%macro gpr 1
        entry %str(%1), 8, FL
        mov rax, [rbx]
        mov r9, [rbx + 32]
        %1 rax, r9
        jmp flags_of
%endmacro
%macro gpr3 1
        entry %str(%1), 8, FL
        mov r8, [rbx]
        mov r9, [rbx + 32]
        %1 rax, r8, r9
        jmp flags_of
%endmacro

        section .text

; The six flags, minus those that the instructions leave undefined: CF and ZF.
flags_of:
        pushfq
        mov [rbp], rax
        pop rax
        and eax, 0x41
        ret

%macro each 2-*
%define %%do %1
%rep %0 - 1
%rotate 1
        %%do %1
%endrep
%endmacro

each sse, addps, subps, mulps, divps, minps, maxps, sqrtps, addpd, subpd, mulpd, divpd, minpd, maxpd, sqrtpd
each sse, addss, subss, mulss, divss, minss, maxss, sqrtss, addsd, subsd, mulsd, divsd, minsd, maxsd, sqrtsd
each sse, rcpps, rsqrtps, rcpss, rsqrtss, andps, andnps, orps, xorps, unpcklps, unpckhpd, movhlps, movlhps
each sse, haddps, haddpd, hsubps, hsubpd, addsubps, addsubpd, movshdup, movsldup, movddup
each sse, cvtps2pd, cvtpd2ps, cvtss2sd, cvtsd2ss, cvtdq2ps, cvtps2dq, cvttps2dq, cvtdq2pd, cvtpd2dq, cvttpd2dq
each sse, paddb, paddw, paddd, paddq, paddsb, paddsw, paddusb, paddusw, psubb, psubw, psubd, psubq, psubsb, psubusw
each sse, pmullw, pmulhw, pmulhuw, pmuludq, pmaddwd, pavgb, pavgw, psadbw, pminub, pmaxub, pminsw, pmaxsw
each sse, pcmpeqb, pcmpeqd, pcmpgtb, pcmpgtw, pcmpgtd, packsswb, packssdw, packuswb, punpcklbw, punpckhwd, punpcklqdq
each sse, psllw, pslld, psllq, psrlw, psrld, psrlq, psraw, psrad, pand, pandn, por, pxor
each sse, pshufb, phaddw, phaddd, phaddsw, phsubw, pmaddubsw, pmulhrsw, psignb, psignw, psignd, pabsb, pabsw, pabsd
each sse, pmulld, pmuldq, pminsb, pmaxsb, pminuw, pmaxud, pminsd, packusdw, pcmpeqq, pcmpgtq, phminposuw, pmovsxbw, pmovzxwd
each sse, aesenc, aesenclast, aesdec, aesdeclast, aesimc
        sse_imm cmpps, 1
        sse_imm cmppd, 3
        sse_imm cmpss, 6
        sse_imm cmpsd, 2
        sse_imm shufps, 0x6C
        sse_imm shufpd, 2
        sse_imm pshufd, 0x1B
        sse_imm palignr, 5
        sse_imm roundps, 4
        sse_imm roundpd, 1
        sse_imm roundss, 2
        sse_imm roundsd, 3
        sse_imm dpps, 0xF1
        sse_imm dppd, 0x33
        sse_imm mpsadbw, 3
        sse_imm blendps, 5
        sse_imm pblendw, 0xA5
        sse_imm insertps, 0x4A
        sse_imm pclmulqdq, 0x11
        sse_imm aeskeygenassist, 0x36
        sse_shift pslldq, 3
        sse_shift psrad, 7
each compare, comiss, ucomiss, comisd, ucomisd, ptest
        to_int cvtss2si, rax
        to_int cvttss2si, eax
        to_int cvtsd2si, eax
        to_int cvttsd2si, rax
        to_int movmskps, eax
        to_int pmovmskb, eax
        from_int cvtsi2ss, rax
        from_int cvtsi2sd, rax
        from_int cvtsi2sd, eax
each mmx, paddb, paddsw, psubusb, pmullw, pmaddwd, packsswb, punpckhbw, pcmpgtw, psrlq, pavgb, psadbw, pshufb, pabsd, pmulhrsw

each x87_two, faddp, fsubp, fsubrp, fmulp, fdivp, fdivrp, fpatan, fyl2x
each x87_keep, fprem, fprem1, fscale
each x87_one, fsqrt, fsin, fcos, f2xm1, frndint, fabs, fchs
each x87_split, fsincos, fxtract, fptan
        entry 'fyl2xp1', 16, FS
        fld tword [rbx]
        fld tword [rbx + 32]
        fyl2xp1
        fstp tword [rbp]
        ret
        x87_mem fadd, dword
        x87_mem fadd, qword
        x87_mem fmul, qword
        x87_mem fdivr, dword
        x87_mem fiadd, word
        x87_mem fisub, dword
        x87_mem fimul, dword
        x87_store fstp, dword
        x87_store fstp, qword
        x87_store fistp, word
        x87_store fistp, dword
        x87_store fistp, qword
        x87_store fisttp, qword
        x87_store fbstp, tword
        entry 'fbld', 16, FS
        fbld tword [rbx]
        fstp tword [rbp]
        ret
        entry 'fcomi', 8, FL
        fld tword [rbx]
        fld tword [rbx + 32]
        fcomip st0, st1
        fstp st0
        pushfq
        pop rax
        and eax, 0x45
        ret
        entry 'fxam', 8, FS
        fld tword [rbx]
        fxam
        ret
        entry 'fcompp', 8, FS
        fld tword [rbx]
        fld tword [rbx + 32]
        fcompp
        ret
        entry 'ftst', 8, FS
        fld tword [rbx]
        ftst
        ret

each gpr, lzcnt, tzcnt, popcnt, crc32, imul
each gpr3, pdep, pext, andn, bextr, bzhi

each avx, vaddps, vsubps, vmulps, vdivps, vminps, vmaxps, vaddpd, vsubpd, vmulpd, vdivpd, vminpd, vmaxpd, vandps, vxorpd
each avx, vhaddps, vhsubpd, vaddsubps, vunpcklps, vpermilps
each avx, vpaddb, vpaddusw, vpsubsw, vpmullw, vpmulld, vpmuldq, vpmaddwd, vpsadbw, vpshufb, vpackssdw, vpcmpgtq, vpsllvd, vpsrlvq, vpsravd, vpermd
each avx_one, vsqrtps, vsqrtpd, vrcpps, vrsqrtps, vcvtdq2ps, vcvtps2dq, vcvttps2dq, vpabsd
        avx_imm vcmpps, 0x11
        avx_imm vcmppd, 0x1E
        avx_imm vshufps, 0x93
        avx_imm vblendpd, 9
        avx_imm vdpps, 0xFF
        avx_imm vperm2f128, 0x21
        avx_imm vpalignr, 11
        avx_imm vpblendd, 0x5A
each fma, vfmadd132ps, vfmadd213pd, vfmsub231ps, vfnmadd132pd, vfnmsub213ps, vfmaddsub231pd, vfmsubadd132ps
each fma_scalar, vfmadd132ss, vfmadd231sd, vfnmsub213sd
        entry 'vcvtph2ps', 32, MX
        vcvtph2ps ymm3, [rbx]
        vmovups [rbp], ymm3
        ret
        entry 'vcvtps2ph', 16, MX
        vmovups ymm3, [rbx]
        vcvtps2ph xmm4, ymm3, 4
        movups [rbp], xmm4
        ret

; ---- the loop

_start:
        lea rbx, [rel operands]
        lea rbp, [rel result]
        lea rdi, [rel filesize_end]     ; output position: the buffer behind the file
        xor r15d, r15d                  ; round
.round: call make_operands
        mov eax, r15d                   ; rounding mode by round; FTZ and DAZ now and then
        and eax, 3
        shl eax, 13
        mov ecx, eax
        or eax, 0x1F80
        test r15d, 0x38
        jnz .no_ftz
        or eax, 0x8040
.no_ftz:
        mov [rel mxcsr], eax
        shr ecx, 3
        or ecx, 0x037F
        test r15b, 4                    ; precision: extended, double, single
        jz .cw
        and ecx, ~0x300
        test r15b, 8
        jz .cw
        or ecx, 0x200
.cw:    mov [rel cw], cx
        lea r14, [rel filesize_end - ops * 32]
        mov r13d, ops
.op:    pxor xmm0, xmm0
        vmovups [rbp], ymm0             ; its upper half is whatever the last operation left: cleared below
        mov qword [rbp + 16], 0
        mov qword [rbp + 24], 0
        vzeroupper
        ldmxcsr [rel mxcsr]
        fninit
        fldcw [rel cw]
        call [r14]
        call status
        call line
        add r14, 32
        dec r13d
        jnz .op
        inc r15d
        cmp r15d, ROUNDS
        jb .round
        call flush
        mov eax, 60
        xor edi, edi
        syscall

; Status of the operation into r12d; eax = its flags.
status:
        cmp byte [r14 + 9], FS
        jb .mxcsr
        je .x87
        and eax, 0x8D5
        mov r12d, eax
        ret
.mxcsr: stmxcsr [rel word32]
        mov r12d, [rel word32]
        ret
.x87:   fnstsw ax
        movzx r12d, ax
        ret

; One line: name, result in hexadecimal, status.
line:
        mov rax, [r14 + 16]
        stosq
        mov rax, [r14 + 24]
        stosq
        movzx ecx, byte [r14 + 8]
        xor edx, edx
.group: mov rax, [rbp + rdx]
        call hex16
        mov al, ' '
        stosb
        add edx, 8
        cmp edx, ecx
        jb .group
        mov eax, r12d
        call hex16
        mov al, 10
        stosb
        lea rax, [rel filesize_end + BUFFER - 256]
        cmp rdi, rax
        jae flush
        ret

; rax as 16 digits at rdi. Keeps rcx, rdx.
hex16:
        bswap rax
        movq xmm0, rax
        movdqa xmm1, xmm0
        psrlq xmm0, 4
        punpcklbw xmm0, xmm1
        pand xmm0, [rel nibbles]
        movdqa xmm1, [rel digits]
        pshufb xmm1, xmm0
        movups [rdi], xmm1
        add rdi, 16
        ret

; Writes what is in the buffer.
flush:
        lea rsi, [rel filesize_end]
        mov rdx, rdi
        sub rdx, rsi
        push rcx
.more:  mov eax, 1
        mov edi, 1
        syscall
        test rax, rax
        jle .failed
        add rsi, rax
        sub rdx, rax
        jnz .more
        pop rcx
        lea rdi, [rel filesize_end]
        ret
.failed:
        mov eax, 60
        mov edi, 1
        syscall

; xorshift64*: rax = next random number.
random:
        mov rax, [rel seed]
        mov rdx, rax
        shr rdx, 12
        xor rax, rdx
        mov rdx, rax
        shl rdx, 25
        xor rax, rdx
        mov rdx, rax
        shr rdx, 27
        xor rax, rdx
        mov [rel seed], rax
        mov rdx, 0x2545F4914F6CDD1D
        imul rax, rdx
        ret

; Fills the three operands of 32 bytes.
make_operands:
        push rdi
        mov rdi, rbx
        mov ecx, 12
.next:  call random
        mov r8, rax
        call random
        mov edx, r8d
        and edx, 7
        jz .special
        cmp edx, 1
        je .store                       ; any bits
        cmp edx, 4
        jb .small_double
        je .special32
        cmp edx, 5
        je .pair
        ; an 80-bit number's upper part or a small integer
        shr r8, 32
        movzx eax, r8w
        and eax, 0x803F
        add eax, 0x3FE0
        jmp .store
.special:
        shr r8, 8
        and r8d, 31
        lea rdx, [rel specials]
        mov rax, [rdx + r8 * 8]
        jmp .store
.special32:
        shr r8, 8
        mov edx, r8d
        and edx, 15
        shr r8, 8
        and r8d, 15
        lea r9, [rel specials32]
        mov eax, [r9 + rdx * 4]
        mov r8d, [r9 + r8 * 4]
        shl r8, 32
        or rax, r8
        jmp .store
.small_double:                          ; exponent near 1
        shr r8, 16
        and r8d, 63
        add r8d, 1023 - 32
        mov rdx, 0x800FFFFFFFFFFFFF
        and rax, rdx
        shl r8, 52
        or rax, r8
        jmp .store
.pair:                                  ; two singles near 1
        mov rdx, 0x807FFFFF807FFFFF
        and rax, rdx
        mov rdx, 0x3F0000003F000000
        or rax, rdx
        mov rdx, 0x0780000007800000
        and r8, rdx
        xor rax, r8
.store: stosq
        dec ecx
        jnz .next
        pop rdi
        ret

        align 16
nibbles: times 16 db 15
digits: db '0123456789abcdef'
specials:
        dq 0, 0x8000000000000000, 0x3FF0000000000000, 0xBFF0000000000000
        dq 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001
        dq 0xFFF8000000000000, 0xFFF4000000000123, 1, 0x000FFFFFFFFFFFFF
        dq 0x0010000000000000, 0x800FFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF, 0xFFEFFFFFFFFFFFFF
        dq 0x41DFFFFFFFC00000, 0xC1E0000000000000, 0x43E0000000000000, 0xC3E0000000000000
        dq 0x3FE0000000000000, 0x4008000000000000, 0x3FF8000000000000, 0x4340000000000000
        dq 0xFFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF, 0xC000000000000000, 0x8000000000000001
        dq 0x36A0000000000000, 0x47EFFFFFE0000000, 0x3810000000000000, 0x400921FB54442D18
specials32:
        dd 0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001
        dd 1, 0x007FFFFF, 0x00800000, 0x7F7FFFFF, 0x4EFFFFFF, 0xCF000000, 0x3F000000, 0x40490FDB
seed:   dq 0x9E3779B97F4A7C15
mxcsr:  dd 0x1F80
word32: dd 0
cw:     dw 0x037F
        align 32
operands: times 96 db 0
result: times 32 db 0
        align 8
text_end:
        section .table follows=.text align=8
        section .end follows=.table align=8
filesize_end:
filesize equ text_end - ehdr + ops * 32
