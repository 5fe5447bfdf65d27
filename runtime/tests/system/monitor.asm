; The system oracle's guest: firmware that loads a record, runs its instructions in the mode and at the privilege level it
; names, catches whatever vector ends them, and writes the state to port E9. Records come from a file of `cases/`.
;
;   nasm -f bin -DCASES='"cases/paging.asm"' monitor.asm -o x.bin
;
; Home is 32-bit protected mode without paging. Before each record the tables in RAM are made anew; the record's code stands
; at 10000h (segment 1000 in real and virtual-8086 mode) and ends with INT3. Lines: see `print_record`.

%define SIZE 0x80000
%define BASE (0x100000000 - SIZE)

; ---- RAM
%define PML4    0x1000
%define PDPT    0x2000
%define PD      0x3000                  ; four pages
%define PT      0x7000                  ; the first 2 MiB
%define PT_DATA 0x8000                  ; 200000h..400000h
%define PD32    0x9000                  ; legacy paging
%define PT32    0xA000
%define PDPT32  0xF000                  ; PAE paging: four entries
%define GDT     0xB000
%define LDT     0xB800
%define IDT     0xC000
%define TSS     0xE000
%define TSS64   0xE400
%define TSS_B   0xE800                  ; a second task
%define TSS16   0xEC00                  ; one of 16 bits
%define CODE    0x10000
%define LOWDATA 0x12000
%define STACK0  0x14F00
%define STACK1  0x15F00
%define STACK2  0x16F00
%define USTACK  0x17F00                 ; the record's own stack
%define IST1    0x19F00
%define SAVE    0x1A000
%define HOME    0x1F000                 ; stack between records
%define DATA    0x200000                ; pages of 4 KiB that records change

; ---- selectors
%define SEL_CODE32   0x08
%define SEL_DATA     0x10
%define SEL_CODE64   0x18
%define SEL_CODE16   0x20
%define SEL_DATA16   0x28
; per privilege level n (0..3): code32, data, code16, code64 at 40h + 20h * n
%define SEL(n, kind) (0x40 + 0x20 * (n) + 8 * (kind) + (n))
%define SEL_TSS      0xC0
%define SEL_TSS64    0xC8               ; 16 bytes
%define SEL_TSS_B    0xD8
%define SEL_LDT      0xE0               ; 16 bytes in long mode
%define SEL_FREE     0x100              ; records put descriptors here, by PRESET

; ---- modes
%define REAL 0
%define PROT16 1
%define PROT32 2
%define V86 3
%define COMPAT 4
%define LONG 5

; ---- a record: 256 bytes
struc rec
.mode:   resb 1
.cpl:    resb 1
.paging: resb 1                         ; outside long mode: 0 none, 1 legacy, 2 PAE
.used:   resb 1                         ; nonzero: not the end
.flags:  resd 1
.cr0:    resd 1                         ; bits to flip
.cr4:    resd 1                         ; bits to set
.efer:   resd 1                         ; bits to set
.name:   resb 12
.gpr:    resq 16
.code:   resb 32
.preset: resb 36                        ; three times address, value (8 bytes)
.dr0:    resd 1
.dr7:    resd 1
.ds:     resw 1
.es:     resw 1
.fs:     resw 1
.gs:     resw 1
.pad:    resb 12
endstruc

; ---- the saved state
struc sv
.vector: resq 1
.error:  resq 1
.rip:    resq 1
.cs:     resq 1
.flags:  resq 1
.rsp:    resq 1
.ss:     resq 1
.gpr:    resq 16
.ds:     resq 1
.es:     resq 1
.fs:     resq 1
.gs:     resq 1
.cr0:    resq 1
.cr2:    resq 1
.cr3:    resq 1
.cr4:    resq 1
.dr6:    resq 1
.dr7:    resq 1
.ldtr:   resq 1
.tr:     resq 1
.fsbase: resq 1
.gsbase: resq 1
.efer:   resq 1
endstruc
%define S(field) (SAVE + sv. %+ field)
%define CURRENT (SAVE + 0x800)          ; address of the record under way

%define at(label) (label - last)        ; offset in segment F000
%define high(label) (BASE + SIZE - 0x10000 + label - last)

%include "macros.inc"

org 0
records:
%include CASES
        times 256 db 0
%if $ - records > SIZE - 0x10000
%error too many records
%endif
        times SIZE - 0x10000 - ($ - records) db 0

last:
%define at(label) (label - last)
%define high(label) (BASE + SIZE - 0x10000 + label - last)

bits 16
start16:
        cli
        o32 lgdt [cs:at(rom_gdt_register)]
        mov eax, 0x11
        mov cr0, eax
        jmp dword SEL_CODE32:high(start32)

bits 32
start32:
        mov eax, SEL_DATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov esp, HOME
        xor eax, eax
        cpuid
        mov eax, 0x80000001
        cpuid
        mov [CURRENT + 16], edx         ; long mode?
        mov dword [CURRENT], BASE

; ---- one record after the other
next_record:
        mov esi, [CURRENT]
        cmp byte [esi + rec.used], 0
        je finished
        cmp byte [esi + rec.mode], COMPAT
        jb .able
        test dword [CURRENT + 16], 1 << 29
        jz skip_record
.able:  call make_tables
        call apply_presets
        ; the code, behind it INT3
        lea edi, [CODE]
        mov esi, [CURRENT]
        add esi, rec.code
        mov ecx, 32
        rep movsb
        mov al, 0xCC
        mov ecx, 32
        rep stosb
        mov dword [S(dr6)], 0
        mov esi, [CURRENT]
        lgdt [high(gdt_register)]
        mov eax, 0xFFFF0FF0
        mov dr6, eax
        xor eax, eax
        mov cr2, eax
        lldt ax
        movzx ecx, byte [esi + rec.mode]
        cmp ecx, LONG
        ja finished
        jmp [high(enter_table) + ecx * 4]

skip_record:
        add dword [CURRENT], rec_size
        jmp next_record

finished:
        mov al, 'Z'
        out 0xE9, al
        mov al, 10
        out 0xE9, al
        xor eax, eax
        mov dx, 0x501
        out dx, al
        mov dx, 0x8900                  ; Bochs leaves on this word
        mov esi, high(shutdown_text)
        mov ecx, 8
        rep outsb
        cli
        hlt
        jmp $ - 1
shutdown_text: db 'Shutdown'

%include "tables.inc"
%include "enter.inc"
%include "catch.inc"
%include "print.inc"

        times 0xFFF0 - ($ - last) db 0
bits 16
reset:  jmp 0xF000:at(start16)
        times 0x10000 - ($ - last) db 0
