; Bare-metal probe of the protected-mode machinery: a 64 KiB firmware image that prints one line per
; probe on port E9 and leaves through port 501. Assemble: nasm -f bin machine.asm.
;
; Every selector value 0..0x183 goes through segment loads, LAR, LSL, VERR, VERW, far JMP, CALL, RET,
; IRET, LLDT, LTR and TSS fields at CPL 0 and 3; then INT through every kind of gate, EFLAGS images
; through POPF and IRET under every IOPL, virtual-8086 mode, and page rights. A line: probe, CPL,
; parameter, vector, error code, CS, EIP (relative to the stub), EFLAGS, DS ES FS GS SS, ESP, EAX,
; ZF, TR, then the top of the stack (or CR2, PDE, PTE).
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

; vm86 stubs (16-bit, CS=F000)
%macro VM 1+
    %1
    db 0xCD,0x40
    align 16
%endmacro
align 16
vmstubs:
    VM nop
    VM cli
    VM sti
    VM pushf
    VM popf
    VM iret
    VM hlt
    VM in al,0x80
    VM mov ds,ax
    VM lar ax,ax
    VM int3
    VM into
    VM o32 pushf
    VM o32 popf
    VM o32 iret
    VM mov eax,cr0
    VM smsw ax
    VM lldt ax
    VM db 0xCD,0x41
    VM db 0xCD,0x42
    VM db 0xCD,0x43
    VM db 0xCD,0x44
    VM db 0xCD,0x4C
    VM db 0xCD,0x45
    VM mov ax,[0xFFFF]
    VM push ax
    VM arpl ax,ax
    VM jmp 0x1234:0
    VM retf
    VM db 0x0F,0x0B
vmstubs_end:

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
    D 0,0x3F,0x40F2 ;170 tiny data dpl3
    D 0,0x6803,0x4092 ;178 small stack dpl0
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

; frame at ebp: gs fs es ds(4 dw) pushad(8) vec err eip cs efl esp ss
evt:
    pushad
    push ds
    push es
    push fs
    push gs
    mov eax,0x10
    mov ds,ax
    mov es,ax
    movzx ebp,sp
    mov eax,[v_id]
    call hex2
    mov eax,[v_cpl]
    call hex2
    mov eax,[v_par]
    call hex8
    mov eax,[ss:ebp+48]
    call hex2
    mov eax,[ss:ebp+52]
    call hex8
    mov eax,[ss:ebp+60]
    call hex4
    mov eax,[ss:ebp+56]
    sub eax,[v_stub]
    cmp eax,0x10000
    jb .near
    mov eax,[ss:ebp+56]
    sub eax,F
.near:
    call hex8
    mov eax,[ss:ebp+64]
    and eax,~0x8D5     ; arithmetic flags matter elsewhere
    call hex8
    ; segments
    mov eax,[ss:ebp+12]
    call hex4
    mov eax,[ss:ebp+8]
    call hex4
    mov eax,[ss:ebp+4]
    call hex4
    mov eax,[ss:ebp+0]
    call hex4
    mov ax,ss
    call hex4
    lea eax,[ebp+68]
    call hex8
    ; eax, zf
    mov eax,[ss:ebp+44]
    call hex8
    mov eax,[ss:ebp+64]
    shr eax,6
    and eax,1
    call hex2
    str ax
    call hex4
    mov eax,[v_pflag]
    test eax,eax
    jz .nopg
    mov eax,cr2
    call hex8
    mov eax,[0x101000-0x1000+4]  ; pde 1
    call hex8
    mov eax,[0x102000]
    call hex8
    jmp .nl
.nopg:
    ; stack words above the frame: 7
    mov esi,0
.st: lea eax,[ebp+68+esi*4]
    cmp eax,0x7000
    jae .nl
    mov eax,[eax]
    call hex8
    inc esi
    cmp esi,9
    jb .st
.nl:
    mov al,10
    call putc
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
    mov edi,0x6500
    mov ecx,(0x7000-0x6500)/4
    mov eax,0xEEEEEEEE
    rep stosd
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

; run: stub at [v_stub], level [v_cpl], eax = param
run:
    mov ecx,[v_ecx]
    mov edx,[v_par2]
    mov eax,[v_par]
    mov dword [FP],F+target
    mov [FP+4],eax
    mov ebx,FP
    cmp dword [v_cpl],0
    jne .user
    push dword [v_flags]
    popfd
    jmp dword [v_stub]
.user:
    push dword 0x23
    push dword 0x6700
    push dword [v_flags]
    push dword 0x1B
    push dword [v_stub]
    mov edi,0x23
    mov ds,di
    mov es,di
    mov fs,di
    mov gs,di
    iretd

; stubs
%macro STUB 1+
    align 16
    %1
    int 0x40
%endmacro
align 16
stubs:
    align 16
    mov ds,ax
    int 0x40
    align 16
    mov ss,ax
    int 0x40
    align 16
    lar eax,eax
    int 0x40
    align 16
    lsl eax,eax
    int 0x40
    align 16
    verr ax
    int 0x40
    align 16
    verw ax
    int 0x40
    align 16
    jmp far [ebx]
    int 0x40
    align 16
    call far [ebx]
    int 0x40
    align 16
    lldt ax
    int 0x40
    align 16
    ltr ax
    int 0x40
    align 16
    push edx
    push dword 0x6680
    push eax
    push dword F+target
    retf
    align 16
    push edx
    push dword 0x6680
    push ecx
    push eax
    push dword F+target
    iretd
    align 16
    mov ds,ax
    mov eax,[0x30]
    mov [0x30],eax
    int 0x40
    align 16
    mov ds,ax
    mov eax,[0xFFE]
    int 0x40
    align 16
    push edx
    push dword 0x6680
    push ecx
    push dword 0
    push eax
    push dword F+target
    retf 4
    align 16
    lds esi,[ebx]
    int 0x40
stubs_end:
NSTUB equ (stubs_end-stubs+15)/16

align 16
intstubs:
%assign n 0x41
%rep 0x18
    align 8
    db 0xCD,n
    int 0x40
%assign n n+1
%endrep
    align 8
    int3
    int 0x40
    align 8
    db 0xF1
    int 0x40
    align 8
    into
    int 0x40
    align 8
    db 0xCD,0x0D
    int 0x40
    align 8
    ud2
    int 0x40
    align 8
    db 0xCD,0xFF
    int 0x40
    align 8
    hlt
    int 0x40
    align 8
    clts
    int 0x40
    align 8
    in al,0x80
    int 0x40
    align 8
    in eax,0x7E
    int 0x40
    align 8
    mov eax,cr0
    int 0x40
    align 8
    mov eax,dr0
    int 0x40
    align 8
    cli
    int 0x40
    align 8
    sti
    int 0x40
    align 8
    mov eax,[es:0xFFFFFFFE]
    int 0x40
intstubs_end:

popf32: push ecx
    popfd
    nop
    pushfd
    pop eax
    int 0x40
popf16: push cx
    popfw
    nop
    pushfd
    pop eax
    int 0x40
ireti: push ecx
    mov edx,cs
    push edx
    push dword F+target
    iretd
iret16i: push cx
    db 0x66
    push cs
    push word RAMCODE
    o16 iret
ntiret: pushfd
    or dword [esp],0x4000
    popfd
    iretd
enterst: enter 8,3
    int 0x40
pushst: push eax
    int 0x40
rdstub: mov eax,[0x400010]
    int 0x40
wrstub: mov [0x400010],eax
    int 0x40
xcstub: mov eax,[0x400FFE]
    int 0x40
rmwstub: lock xadd [0x400010],eax
    int 0x40

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
    ; IDT
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
    mov dword [v_flags],2
    mov dword [v_ecx],2
    mov dword [v_par2],0x23

; ---- 1: every selector, every stub, both levels
    mov dword [v_i],0
.stub:
    mov dword [v_j],0
.lev:
    mov dword [v_k],0
.sel:
    call restore
    mov dword [v_resume],F+.nextsel
    mov eax,[v_i]
    mov [v_id],eax
    shl eax,4
    add eax,F+stubs
    mov [v_stub],eax
    mov eax,[v_j]
    mov [v_cpl],eax
    mov eax,[v_k]
    mov [v_par],eax
    jmp run
.nextsel:
    inc dword [v_k]
    cmp dword [v_k],0x184
    jb .sel
    add dword [v_j],3
    cmp dword [v_j],3
    jbe .lev
    inc dword [v_i]
    cmp dword [v_i],NSTUB
    jb .stub

; ---- 40: retf/iret to outer level with every SS
    mov dword [v_i],10
.o1: mov dword [v_k],0
.o2: call restore
    mov dword [v_resume],F+.o3
    mov eax,[v_i]
    shl eax,4
    add eax,F+stubs
    mov [v_stub],eax
    mov eax,[v_i]
    add eax,0x40
    mov [v_id],eax
    mov dword [v_cpl],0
    mov eax,[v_k]
    mov [v_par2],eax
    mov dword [v_par],0x1B
    jmp run
.o3: inc dword [v_k]
    cmp dword [v_k],0x184
    jb .o2
    inc dword [v_i]
    cmp dword [v_i],11
    jbe .o1
    mov dword [v_par2],0x23

; ---- 60: int stubs at both levels, iopl 0 and 3
    mov dword [v_j],0
.n1: mov dword [v_k],0
.n2: call restore
    mov dword [v_resume],F+.n3
    mov eax,[v_k]
    mov [v_par],eax
    lea eax,[eax*8+F+intstubs]
    mov [v_stub],eax
    mov eax,[v_j]
    and eax,1
    lea eax,[eax*3]
    mov [v_cpl],eax
    mov eax,[v_j]
    shr eax,1
    lea eax,[eax*3]
    shl eax,12
    or eax,0x202
    test dword [v_j],1
    jnz .nu
    and eax,~0x200
.nu: or eax,0x800
    mov [v_flags],eax
    mov dword [v_id],0x60
    cmp dword [v_k],0x18+6 ; hlt at cpl 0: skip
    jne .nr
    cmp dword [v_cpl],0
    je .n3
.nr: cmp dword [v_k],0x18+13 ; sti: leaves IF on
    jmp run
.n3: cli
    inc dword [v_k]
    cmp dword [v_k],(intstubs_end-intstubs)/8
    jb .n2
    inc dword [v_j]
    cmp dword [v_j],4
    jb .n1

; ---- 70: flags images through popf, iret, at levels and iopls
    mov dword [v_i],0
.f0: mov dword [v_j],0
.f1: mov dword [v_k],0
.f2: call restore
    mov dword [v_resume],F+.f3
    mov eax,[v_i]
    mov eax,[cs:F+.ftab+eax*4]
    mov [v_stub],eax
    mov eax,[v_j]
    and eax,1
    lea eax,[eax*3]
    mov [v_cpl],eax
    mov eax,[v_j]
    shr eax,1
    shl eax,12
    or eax,2
    mov [v_flags],eax
    mov eax,[v_i]
    add eax,0x70
    mov [v_id],eax
    mov eax,[v_k]
    cmp eax,32
    jae .fall
    mov ecx,eax
    mov eax,1
    shl eax,cl
    jmp .fset
.fall: mov eax,0x003FFEFF
    cmp dword [v_k],32
    je .fset
    mov eax,0x001DBEFF
.fset: cmp dword [v_k],17   ; VM
    je .f3
    and eax,~0x20000
    mov [v_ecx],eax
    mov [v_par],eax
    jmp run
.f3: cli
    inc dword [v_k]
    cmp dword [v_k],34
    jb .f2
    inc dword [v_j]
    cmp dword [v_j],8
    jb .f1
    inc dword [v_i]
    cmp dword [v_i],4
    jb .f0
    jmp .fdone
align 4
.ftab: dd F+popf32,F+popf16,F+ireti,F+iret16i
.fdone:
    mov dword [v_flags],2
    mov dword [v_ecx],2

; ---- 80: NT return with every back link
    mov dword [v_k],0
.t1: call restore
    mov dword [v_resume],F+.t2
    mov dword [v_stub],F+ntiret
    mov dword [v_id],0x80
    mov dword [v_cpl],0
    mov eax,[v_k]
    mov [v_par],eax
    mov [TSS],eax
    jmp run
.t2: inc dword [v_k]
    cmp dword [v_k],0x184
    jb .t1

; ---- 81..: bad selectors in a new TSS (level 3 task)
    mov dword [v_i],0
.w0: mov dword [v_k],0
.w1: call restore
    mov dword [v_resume],F+.w2
    mov dword [v_stub],F+stubs+6*16
    mov eax,[v_i]
    mov edx,eax
    add edx,0x81
    mov [v_id],edx
    movzx eax,byte [cs:F+.wtab+eax]
    mov ecx,[v_k]
    cmp eax,0x4C
    jne .wn
    or ecx,3
.wn: mov [TSS2+eax],ecx
    mov dword [v_cpl],3
    mov dword [v_par],0xEB
    call run0
.w2: inc dword [v_k]
    cmp dword [v_k],0x184
    jb .w1
    inc dword [v_i]
    cmp dword [v_i],6
    jb .w0
    jmp .wdone
.wtab: db 0x4C,0x50,0x54,0x48,0x60,0x5C
.wdone:

; ---- 90: stack edges
    mov dword [v_k],0
.e1: call restore
    mov dword [v_resume],F+.e2
    mov dword [v_id],0x90
    mov dword [v_cpl],0
    mov eax,[v_k]
    mov [v_par],eax
    mov dword [v_par2],0
    mov ecx,0x178
    test eax,1
    mov edx,F+pushst
    jz .ea
    mov edx,F+enterst
.ea: mov [v_stub],edx
    shr eax,1
    add eax,0x67F0
    mov ebp,0x6700
    mov ss,cx
    mov esp,eax
    jmp dword [v_stub]
.e2: inc dword [v_k]
    cmp dword [v_k],0x28
    jb .e1

; ---- A0: virtual-8086 mode
    mov dword [v_j],0
.v1: mov dword [v_k],0
.v2: call restore
    mov dword [v_resume],F+.v3
    mov eax,[v_k]
    mov [v_par],eax
    mov dword [v_id],0xA0
    shl eax,4
    add eax,vmstubs
    mov [v_stub],eax
    mov eax,[v_j]
    mov [v_cpl],eax
    mov dword [0x6600],RAMCODE
    mov word [0x12340],0x40CD
    mov dword [0x6604],0
    mov dword [0x6608],0x2
    push dword 0x4444
    push dword 0x3333
    push dword 0x2222
    push dword 0x1111
    push dword 0x0600
    push dword 0x600
    mov eax,[v_j]
    lea eax,[eax*3]
    shl eax,12
    or eax,0x20A02
    push eax
    push dword 0xF000
    push dword [v_stub]
    mov eax,0x5678
    iretd
.v3: cli
    inc dword [v_k]
    cmp dword [v_k],(vmstubs_end-vmstubs)/16
    jb .v2
    inc dword [v_j]
    cmp dword [v_j],2
    jb .v1

; ---- B0: paging rights
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
    mov dword [0x100C00],0x101007
    mov eax,0x100000
    mov cr3,eax
    mov [v_cr3],eax
    mov eax,cr0
    or eax,0x80000000
    mov cr0,eax
    mov dword [v_pflag],1
    mov dword [v_i],0    ; stub
.g0: mov dword [v_j],0   ; bit0 user, bit1 wp
.g1: mov dword [v_k],0   ; pte|pde<<3
.g2: call restore
    mov dword [v_resume],F+.g3
    mov eax,[v_k]
    mov edx,eax
    and eax,7
    or eax,0x200000
    mov [0x102000],eax
    shr edx,3
    or edx,0x102000
    mov [0x100004],edx
    mov eax,cr3
    mov cr3,eax
    mov eax,cr0
    and eax,~0x10000
    test dword [v_j],2
    jz .gw
    or eax,0x10000
.gw: mov cr0,eax
    mov eax,[v_j]
    and eax,1
    lea eax,[eax*3]
    mov [v_cpl],eax
    mov eax,[v_i]
    add eax,0xB0
    test dword [v_j],2
    jz .gx
    or eax,8
.gx: mov [v_id],eax
    mov eax,[v_i]
    mov eax,[cs:F+.gtab+eax*4]
    mov [v_stub],eax
    mov eax,[v_k]
    mov [v_par],eax
    jmp run
.g3: inc dword [v_k]
    cmp dword [v_k],64
    jb .g2
    inc dword [v_j]
    cmp dword [v_j],4
    jb .g1
    inc dword [v_i]
    cmp dword [v_i],4
    jb .g0
    jmp .gdone
align 4
.gtab: dd F+rdstub,F+wrstub,F+xcstub,F+rmwstub
.gdone:
    mov al,'Z'
    out 0xE9,al
    mov al,10
    out 0xE9,al
    mov al,0
    mov dx,0x501
    out dx,al
    cli
.h: hlt
    jmp .h
run0: pop eax
    mov eax,[v_k]
    mov [v_par2],eax
    mov eax,[v_par]
    mov dword [FP],F+target
    mov [FP+4],eax
    mov eax,[v_k]
    mov [v_par],eax
    mov ebx,FP
    push dword 0x23
    push dword 0x6700
    push dword 2
    push dword 0x1B
    push dword [v_stub]
    mov edi,0x23
    mov ds,di
    mov es,di
    mov fs,di
    mov gs,di
    iretd

times 0xFF00-($-$$) db 0
    int 0x40
times 0xFF10-($-$$) db 0
    jmp near h40
times 0xFFF0-($-$$) db 0
bits 16
    jmp 0xF000:start16
times 0x10000-($-$$) db 0
