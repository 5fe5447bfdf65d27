; Bare-metal probe of fault atomicity: each stub runs one insn whose operand reaches into a page (or
; past a limit) that refuses it, and prints all registers and a checksum of memory. A 64 KiB firmware
; image; lines on port E9, leaves through port 501. Assemble: nasm -f bin faults.asm.
;
; Conditions: 0 page absent, 1 read-only, 2 writable, 3 segment limit (all at CPL 3), 4 supervisor
; page, 5 writable at CPL 0. A line: condition, stub, vector, error code, CS, EIP (relative to the
; stub), EFLAGS, EAX ECX EDX EBX, handler ESP, EBP ESI EDI, ESP, DS ES GS, CR2, checksum, PTE.
bits 16
org 0
F equ 0xF0000
target equ 0xFF00
H40 equ 0xFF10
GDT equ 0x1000
IDT equ 0x2000
TSS equ 0x3000
TSS2 equ 0x3200
TSS16 equ 0x3400
LDT equ 0x3600
V equ 0x600            ; variables
v_resume equ V+0
v_id equ V+4
v_par equ V+8
v_cpl equ V+12
v_stub equ V+16
v_ecx equ V+20
v_flags equ V+24
v_par2 equ V+28
v_i equ V+32
v_j equ V+36
v_k equ V+40
v_loop equ V+44
v_cr3 equ V+48
v_vm equ V+52
v_pflag equ V+64
FP equ 0x500           ; far pointer
RAMCODE equ 0x800

start16:
    cli
    mov al,2
    out 0x92,al
    xor ax,ax
    mov ds,ax
    o32 lgdt [cs:gdtr_rom]
    mov eax,cr0
    and eax,0x9FFFFFFF
    or al,1
    mov cr0,eax
    jmp dword 0x08:F+pm
align 4
gdtr_rom: dw gdt_end-gdt_rom-1
    dd F+gdt_rom
gdtr: dw gdt_end-gdt_rom-1
    dd GDT
idtr: dw 0x7FF
    dd IDT

bits 32
align 8
%macro D 3 ; base, limit, attr(flags<<12|access)
    dw (%2)&0xFFFF
    dw (%1)&0xFFFF
    db ((%1)>>16)&0xFF
    db (%3)&0xFF
    db (((%2)>>16)&15)|(((%3)>>8)&0xF0)
    db ((%1)>>24)&0xFF
%endmacro
%macro G 4 ; sel, off, access, params
    dw (%2)&0xFFFF
    dw %1
    db %4
    db %3
    dw ((%2)>>16)&0xFFFF
%endmacro
gdt_rom:
    dq 0
    D 0,0xFFFFF,0xC09B ;08
    D 0,0xFFFFF,0xC093 ;10
    D 0,0xFFFFF,0xC0FB ;18
    D 0,0xFFFFF,0xC0F3 ;20
    D TSS,0x20FF,0x0089 ;28
    D LDT,0x3F,0x0082 ;30
    D 0,0xFFFFF,0xC09E ;38 conf dpl0
    D 0,0xFFFFF,0xC0FE ;40 conf dpl3
    D 0,0xFFFFF,0xC090 ;48 ro
    D 0,0xFFFFF,0xC0F0 ;50 ro dpl3
    D 0,0xFFFFF,0xC098 ;58 xo
    D 0,0xFFFFF,0xC0F8 ;60 xo dpl3
    D 0,0xFFF,0x4096 ;68 expdown
    D 0,0xFFF,0x40F6 ;70
    D 0,0xFFFFF,0xC012 ;78 np data
    D 0,0xFFFFF,0xC01A ;80 np code
    D 0,0xFFFFF,0xC072 ;88 np data3
    D 0,0xFFFFF,0xC07A ;90 np code3
    D 0,0xFFFFF,0xC0BA ;98 code dpl1
    D 0,0xFFFFF,0xC0B2 ;A0 data dpl1
    G 0x08,F+target,0xEC,0 ;A8
    G 0x08,F+target,0x8C,0 ;B0
    G 0x08,RAMCODE,0xE4,3 ;B8 call gate 16
    G 0x38,F+target,0xEC,2 ;C0 conf
    G 0x08,F+target,0x6C,0 ;C8 np
    G 0x10,F+target,0xEC,0 ;D0 data
    G 0xE8,0,0xE5,0 ;D8 task gate
    D TSS16,0x2B,0x0081 ;E0 tss16
    D TSS2,0x67,0x00E9 ;E8 tss32 dpl3
    D TSS2,0x67,0x00EB ;F0 busy
    D 0,0xFFFFF,0xC0E0 ;F8 type 0
    D 0,0xFFFFF,0xC0E8 ;100
    D 0,0xFFFFF,0xC0EA ;108
    G 0x08,F+target,0xEE,0 ;110
    D 0,0xFFFFF,0x009A ;118 code16
    D 0,0xFFFF,0x0092 ;120 data16
    D LDT,0x3F,0x0002 ;128 np ldt
    D TSS2,0x67,0x0069 ;130 np tss
    G 0,F+target,0xEC,0 ;138
    G 0x1000,F+target,0xEC,0 ;140
    D 0,0xFFFFF,0xC0D2 ;148 data dpl2
    G 0x98,F+target,0xEC,5 ;150 gate to dpl1
    D TSS2,0x66,0x00E9 ;158 short tss
    G 0x08,F+target,0xEC,31 ;160 31 params
    G 0x18,F+target,0xEC,0 ;168 gate to dpl3
    D 0,0x400,0xC0F2 ;170 data dpl3 limit 400FFF
    D 0,0x400,0xC092 ;178 data dpl0 limit 400FFF small stack dpl0
gdt_end:
ldt_rom:
    dq 0
    D 0,0xFFFFF,0xC09A ;0C
    D 0,0xFFFFF,0xC0F2 ;17
    D TSS2,0x67,0x00E9 ;1C
    G 0x08,F+target,0xEC,1 ;24
    D 0,0xFFFFF,0xC092 ;2C
    D 0,0xFFFFF,0xC0FA ;34
    D LDT,0x3F,0x0082 ;3C
ldt_end:
idt40_rom:
    G 0x08,F+H40,0xEE,0 ;40
    G 0x08,F+target,0x8E,0 ;41
    G 0x08,F+target,0xEF,0 ;42
    G 0x08,RAMCODE,0xE6,0 ;43
    G 0x38,F+target,0xEE,0 ;44
    G 0x18,F+target,0xEE,0 ;45
    G 0x08,F+target,0x6E,0 ;46
    G 0x08,F+target,0xEC,0 ;47
    G 0,F+target,0xEE,0 ;48
    G 0x10,F+target,0xEE,0 ;49
    G 0x80,F+target,0xEE,0 ;4A
    G 0xE8,0,0xE5,0 ;4B task gate
    G 0x98,F+target,0xEE,0 ;4C dpl1
    G 0x58,F+target,0xEF,0 ;4D xo
    G 0x118,F+target,0xEE,0 ;4E code16 at FFFF (inside)
    G 0x118,0x100000,0xEE,0 ;4F beyond limit
    G 0x08,RAMCODE,0xE7,0 ;50 trap16
    G 0x1000,0,0xEE,0 ;51
    G 0x40,F+target,0xEE,0 ;52 conf dpl3
    G 0xE0,0,0x85,0 ;53 task gate dpl0 tss16
    G 0xF0,0,0xE5,0 ;54 task gate busy
    G 0x1C,0,0xE5,0 ;55 task gate ldt
    G 0x0C,F+target,0xEE,0 ;56 ldt code
idt40_end:

; exception entry points
%macro EH 1
  %if %1==8 || (%1>=10 && %1<=14) || %1==17
  eh%1: push dword %1
        jmp near evt
  %else
  eh%1: push dword 0
        push dword %1
        jmp near evt
  %endif
%endmacro
%assign n 0
%rep 20
  EH n
%assign n n+1
%endrep
h40: push dword 0
    push dword 0x40
    jmp evt
ehtab:
%assign n 0
%rep 20
    dd F+eh %+ n
%assign n n+1
%endrep


putc: out 0xE9,al
    ret
hex8: ; eax, 8 digits
    push ecx
    mov ecx,8
    jmp hexn
hex4: push ecx
    mov ecx,4
    rol eax,16
    jmp hexn
hex2: push ecx
    mov ecx,2
    rol eax,24
hexn:
.l: rol eax,4
    push eax
    and al,15
    cmp al,10
    sbb al,0x69
    das
    call putc
    pop eax
    loop .l
    pop ecx
    mov al,' '
    jmp putc


evt:
    pushad
    push ds
    push es
    push fs
    push gs
    mov eax,0x10
    mov ds,ax
    mov es,ax
    mov ebp,esp
    mov eax,[v_id]
    call hex2
    mov eax,[v_par]
    call hex4
    mov eax,[ss:ebp+48]
    call hex2
    mov eax,[ss:ebp+52]
    call hex4
    mov eax,[ss:ebp+60]
    call hex4
    mov eax,[ss:ebp+56]
    sub eax,[v_stub]
    call hex8
    mov eax,[ss:ebp+64]
    and eax,0x0447C1
    call hex8
    mov esi,11
.r: mov eax,[ss:ebp+esi*4]
    call hex8
    dec esi
    cmp esi,4
    jae .r
    mov eax,[ss:ebp+68]
    test dword [ss:ebp+60],3
    jnz .sp
    lea eax,[ebp+68]
.sp: call hex8
    mov eax,[ss:ebp+12]
    call hex4
    mov eax,[ss:ebp+8]
    call hex4
    mov eax,[ss:ebp+0]
    call hex4
    mov eax,cr2
    call hex8
    ; checksum of test pages (physical alias via identity of 2xx000)
    mov ax,0x10
    mov es,ax
    xor eax,eax
    mov edx,0x200E00
.ck: rol eax,5
    xor eax,[edx]
    add edx,4
    cmp edx,0x202200
    jb .ck
    call hex8
    mov eax,[0x102004]
    call hex8
    mov al,10
    call putc
    mov ax,0x10
    mov ss,ax
    mov esp,0x6800
    xor eax,eax
    mov cr2,eax
    jmp dword [v_resume]
restore: ; return address on flat stack; resets all tables and registers
    pop edi
    mov [v_loop],edi
    mov eax,0x10
    mov ss,ax
    mov ds,ax
    mov es,ax
    mov fs,ax
    mov gs,ax
    mov esp,0x6800
    cld
    mov esi,F+gdt_rom
    mov edi,GDT
    mov ecx,(gdt_end-gdt_rom)/4
    rep movsd
    mov esi,F+ldt_rom
    mov edi,LDT
    mov ecx,(ldt_end-ldt_rom)/4
    rep movsd
    lgdt [cs:F+gdtr]
    lidt [cs:F+idtr]
    ; TSSes
    mov edi,TSS
    mov ecx,0x600/4
    xor eax,eax
    rep stosd
    mov edi,TSS
    call filltss
    mov edi,TSS2
    call filltss
    mov edi,TSS2
    mov dword [edi+0x20],F+target
    mov dword [edi+0x24],0x2
    mov dword [edi+0x38],0x6600
    mov dword [edi+0x28],0xAAAA0001
    mov dword [edi+0x48],0x23
    mov dword [edi+0x4C],0x1B
    mov dword [edi+0x50],0x23
    mov dword [edi+0x54],0x23
    mov dword [edi+0x58],0x0
    mov dword [edi+0x5C],0x23
    mov eax,[v_cr3]
    mov [edi+0x1C],eax
    mov edi,TSS16
    mov word [edi+2],0x7000
    mov word [edi+4],0x10
    mov word [edi+0x0E],RAMCODE
    mov word [edi+0x10],2
    mov word [edi+0x1A],0x6600
    mov word [edi+0x12],0x1234
    mov word [edi+0x22],0x10
    mov word [edi+0x24],0x08
    mov word [edi+0x26],0x120
    mov word [edi+0x28],0x10
    ; clear stack area
    mov eax,0x30
    lldt ax
    mov eax,0x28
    ltr ax
    push dword 2
    popfd
    clts
    mov word [RAMCODE],0x40CD
    jmp dword [v_loop]

filltss:
    mov dword [edi+4],0x7000
    mov dword [edi+8],0x10
    mov dword [edi+12],0x6F00
    mov dword [edi+16],0xA1
    mov dword [edi+20],0x6E00
    mov dword [edi+24],0x14A
    mov dword [edi+0x64],0x00680000
    ret


; name: each stub is 32 bytes
%macro S 1+
    align 32
    %1
    int 0x40
%endmacro
%macro S2 2+
    align 32
    %1
    %2
    int 0x40
%endmacro
align 32
stubs:
S mov eax,[ebx]
S mov [ebx],eax
S add [ebx],eax
S adc [ebx],ax
S sbb eax,[ebx]
S xchg [ebx],eax
S lock cmpxchg [ebx],ecx
S cmpxchg [ebx],ecx
S xadd [ebx],eax
S cmpxchg8b [ebx-4]
S les eax,[ebx]
S lds eax,[ebx-2]
S lgs ecx,[ebx-4]
S lss esp,[ebx-2]
S sgdt [ebx]
S sidt [ebx-2]
S sldt [ebx+1]
S smsw [ebx+1]
S str [ebx+1]
S bound eax,[ebx]
S bound eax,[ebx-4]
S pop dword [ebx]
S pop dword [esp]
S push dword [ebx]
align 32
    lea esp,[edx+0x10]
    pusha
    int 0x40
align 32
    lea esp,[edx+0x8]
    pushaw
    int 0x40
align 32
    lea esp,[edx+0x20]
    pusha
    int 0x40
align 32
    lea esp,[ebx-0x10]
    popa
    int 0x40
align 32
    lea esp,[ebx-0x8]
    popaw
    int 0x40
align 32
    lea esp,[edx+8]
    enter 0x20,3
    int 0x40
align 32
    lea esp,[edx+0x10]
    enter 0xF00,2
    int 0x40
align 32
    lea esp,[edx+8]
    enter 0x0,0
    int 0x40
align 32
    lea esp,[edx+4]
    o16 enter 0x20,3
    int 0x40
align 32
    mov ebp,ebx
    leave
    int 0x40
align 32
    lea esp,[edx+2]
    call edi
    int 0x40
align 32
    lea esp,[edx+4]
    call [ebx]
    int 0x40
S call [ebx-2]
S jmp [ebx-2]
align 32
    mov esp,ebx
    ret
    int 0x40
align 32
    lea esp,[ebx-4]
    retf
    int 0x40
align 32
    lea esp,[ebx-8]
    iretd
    int 0x40
align 32
    lea esp,[ebx-1]
    retf 8
    int 0x40
align 32
    lea esp,[edx+4]
    call 0x08:0xFFF00
    int 0x40
align 32
    lea esp,[edx+2]
    push ds
    int 0x40
align 32
    lea esp,[edx+2]
    push es
    int 0x40
align 32
    lea esp,[edx+1]
    push word 5
    int 0x40
align 32
    mov esp,ebx
    pop ds
    int 0x40
align 32
    mov esp,ebx
    pop ss
    int 0x40
align 32
    mov esp,ebx
    pop eax
    int 0x40
align 32
    mov esp,ebx
    popf
    int 0x40
align 32
    lea esp,[edx+2]
    pushf
    int 0x40
S mov [ebx+1],ds
S mov ds,[ebx+1]
S mov [ebx],ss
S arpl [ebx+1],ax
S setc [ebx+2]
S movzx eax,word [ebx+1]
S movsx eax,byte [ebx+2]
align 32
    imul eax,[ebx],7
    test eax,eax
    int 0x40
align 32
    mul dword [ebx]
    test eax,eax
    int 0x40
align 32
    imul dword [ebx]
    test eax,eax
    int 0x40
S inc dword [ebx]
S dec word [ebx+1]
S neg dword [ebx]
S not dword [ebx]
; of these the processors' makers choose AF, or OF
align 32
    stc
    rcl dword [ebx],cl
    test eax,eax
    int 0x40
S2 {rcr word [ebx+1],3}, test eax,eax
S2 {shl dword [ebx],cl}, test eax,eax
S2 {shld [ebx],eax,5}, test eax,eax
S2 {shrd [ebx],eax,cl}, test eax,eax
S bts [ebx],eax
S btc dword [ebx],3
align 32
    mov ecx,32
    bts [ebx-4],ecx
    int 0x40
align 32
    mov ecx,-8
    btr [edx],ecx
    int 0x40
S bt [ebx],ecx
S bsf eax,[ebx]
S cmp [ebx],eax
S test [ebx],eax
S test byte [ebx+2],1
S movsd
S movsb
align 32
    mov edi,0x780
    movsd
    int 0x40
align 32
    mov esi,0x780
    movsd
    int 0x40
S stosd
S lodsd
S scasd
S cmpsd
align 32
    mov esi,0x780
    cmpsd
    int 0x40
S insb
S insd
S outsd
S rep movsb
S rep movsd
align 32
    mov edi,0x790
    rep movsb
    int 0x40
align 32
    mov esi,0x790
    rep movsw
    int 0x40
S rep stosd
S rep stosb
S rep lodsd
S repe cmpsb
S repne scasd
S rep insd
S rep outsb
align 32
    std
    rep movsb
    int 0x40
align 32
    std
    rep stosd
    int 0x40
align 32
    lea esi,[edx+2]
    std
    int 0x40
S xlat
S o16 push dword [ebx]
S aam 0
align 32
    xor ecx,ecx
    div ecx
    int 0x40
align 32
    mov edx,0x80000000
    idiv ecx
    int 0x40
S div dword [ebx]
S into
S int3
S db 0x8D,0xC0
S db 0xF0,0x90
S db 0x0F,0xFF
S db 0x8E,0xC8
S db 0x8C,0xF8
S db 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
S db 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90
S jmp 0xFFFFFFFF:0xFFFF
S jmp [ebx+0x1000]
S o16 jmp ax
align 32
    mov esp,0x400FFE
    push dword 1
    int 0x40
align 32
    mov esp,edx
    push dword 1
    int 0x40
align 32
    mov ebp,ebx
    mov eax,[ebp]
    int 0x40
align 32
    mov ebp,ebx
    mov [ebp],eax
    int 0x40
S mov eax,[cs:ebx]
S mov [cs:ebx],eax
S mov eax,[fs:ebx]
S lock inc dword [ebx]
S lock btr dword [ebx],7
S lock not dword [ebx]
S lock neg dword [ebx]
S xchg al,[ebx+2]
S invd
S wbinvd
S mov eax,cr2
S mov ax,[ebx+1]
S mov byte [ebx+1],5
S or byte [ebx+2],0x80
S and word [ebx+1],0xFF
stubs_end:
NS equ (stubs_end-stubs+31)/32

pm:
    mov eax,0x10
    mov ds,ax
    mov es,ax
    mov ss,ax
    mov esp,0x6800
    cld
    mov edi,0x500
    mov ecx,(0x4000-0x500)/4
    xor eax,eax
    rep stosd
    xor ecx,ecx
.i: mov eax,[cs:F+ehtab+ecx*4]
    mov edx,eax
    mov [IDT+ecx*8],ax
    mov word [IDT+ecx*8+2],8
    shr edx,16
    mov [IDT+ecx*8+6],dx
    mov word [IDT+ecx*8+4],0x8E00
    inc ecx
    cmp ecx,20
    jb .i
    mov word [IDT+3*8+4],0xEE00
    mov word [IDT+4*8+4],0xEE00
    mov esi,F+idt40_rom
    mov edi,IDT+0x40*8
    mov ecx,(idt40_end-idt40_rom)/4
    rep movsd
    mov edi,0x100000
    mov ecx,0x3000/4
    xor eax,eax
    rep stosd
    mov ecx,1024
    mov edi,0x101000
    mov eax,7
.p0: stosd
    add eax,0x1000
    loop .p0
    mov dword [0x100000],0x101007
    mov eax,0x100000
    mov cr3,eax
    mov [v_cr3],eax
    mov eax,cr0
    or eax,0x80010000
    mov cr0,eax
    ; conditions: 0 np user, 1 ro user, 2 rw user, 3 limit user, 4 np kernel, 5 ro kernel(WP), 6 rw kernel, 7 supervisor page user
    mov dword [v_j],0
.c: mov dword [v_k],0
.s: call restore
    mov dword [v_resume],F+.next
    mov eax,[v_j]
    mov [v_id],eax
    mov eax,[v_k]
    mov [v_par],eax
    shl eax,5
    add eax,F+stubs
    mov [v_stub],eax
    mov dword [0x100004],0x102007
    mov dword [0x102000],0x200007
    mov eax,[v_j]
    mov eax,[cs:F+.ptes+eax*4]
    mov [0x102004],eax
    mov dword [0x102008],0x202007
    mov eax,cr3
    mov cr3,eax
    ; fill memory
    mov edi,0x200000
    mov ecx,0x3000/4
    mov eax,0x00100203
.fm: stosd
    add eax,0x01010107
    loop .fm
    mov edi,0x600+0x48
    mov eax,[v_j]
    movzx ecx,byte [cs:F+.lvl+eax]
    test ecx,ecx
    jz .kern
    push dword 0x23
    push dword 0x400FF0
    push dword 0x2
    push dword 0x1B
    push dword [v_stub]
    mov edi,0x23
    cmp dword [v_j],3
    jne .nl
    mov dword [esp+16],0x173
    mov edi,0x173
.nl: mov ds,di
    mov es,di
    mov edi,0x23
    mov fs,di
    mov gs,di
    call regs
    iretd
.kern:
    call regs
    mov esp,0x400FF0
    jmp dword [ds:v_stub]
.next:
    cli
    cld
    inc dword [v_k]
    cmp dword [v_k],NS
    jb .s
    inc dword [v_j]
    cmp dword [v_j],6
    jb .c
    mov al,'Z'
    out 0xE9,al
    mov al,10
    out 0xE9,al
    mov al,0
    mov dx,0x501
    out dx,al
.h: cli
    hlt
    jmp .h
align 4
.ptes: dd 0x201006,0x201005,0x201007,0x201007,0x201003,0x201007
.lvl: db 3,3,3,3,3,0
align 4
regs:
    mov eax,0x400FFE
    mov ebx,0x400FFE
    mov ecx,0x25
    mov edx,0x402000
    mov esi,0x400FEE
    mov edi,0x400FF2
    mov ebp,0x400FFC
    ret

times 0xFF00-($-$$) db 0
    int 0x40
times 0xFF10-($-$$) db 0
    jmp near h40
times 0xFFF0-($-$$) db 0
bits 16
    jmp 0xF000:start16
times 0x10000-($-$$) db 0
