; Kernels that say on COM1 how they were entered and what they got, and end by isa-debug-exit.
; -DFORMAT=1: a bzImage with a 16-, a 32- and a 64-bit entry; 2: a multiboot image; 3: a PVH ELF file.
; Sources: Linux boot protocol (Documentation/arch/x86/boot.rst); Multiboot Specification 0.6.96; Xen's start_info.h.

LOAD equ 0x100000
EXIT equ 0x501

%if FORMAT = 1
SETUP equ 512 * 5
org 0
times 0x1f1 db 0
        db 4                            ; setup_sects
        dw 0
        dd (pm_end - pm) / 16
        dw 0, 0xffff, 0, 0xaa55
        jmp short real
        db "HdrS"
        dw 0x20c, 0, 0, 0, 0
        db 0, 1                         ; LOADED_HIGH
        dw 0
        dd LOAD, 0, 0, 0
        dw 0
        db 0, 0
        dd 0, 0x7fffffff, 0x1000
        db 0, 0
        dw 1                            ; XLF_KERNEL_64
        dd 255
        times 0x268 - ($ - $$) db 0

bits 16
real:   mov ax, ds
        cmp ax, 0x1000
        jne .exit
        push ds
        mov si, text16
        call puts16
        mov eax, [0x228]                ; cmd_line_ptr
        shr eax, 4
        mov ds, ax
        xor si, si
        call puts16
        pop ds
        mov eax, [0x21c]                ; ramdisk_size
        add al, '0'
        call put16
        mov al, 0x10
        mov dx, EXIT
        out dx, al
.exit:  mov al, 0x20
        mov dx, EXIT
        out dx, al
        hlt
puts16: lodsb
        test al, al
        jz .end
        call put16
        jmp puts16
.end:   mov al, 10
put16:  mov dx, 0x3f8
        out dx, al
        ret
text16: db "16-bit entry", 0
        times SETUP - ($ - $$) db 0

bits 32
pm:     mov edi, text32 - pm + LOAD
        mov esp, 0x80000
        jmp pm_common
        times 0x200 - ($ - pm) db 0
bits 64
        mov esp, 0x80000
        mov edi, text64 - pm + LOAD
        ; The rest decodes alike in both modes: no 32-bit push, no inc.
bits 32
pm_common:
        mov eax, esi                    ; the zero page
        mov esi, edi
        mov ebx, eax
        call puts
        mov esi, [ebx + 0x228]
        call puts
        mov esi, [ebx + 0x218]          ; ramdisk_image
        mov eax, [esi]
        call put
        mov eax, 'm'
        cmp byte [ebx + 0x1e8], 2       ; e820_entries
        jb .bad
        cmp dword [ebx + 0x2d0 + 16], 1
        jne .bad
        call put
        jmp good
.bad:   jmp bad

%elif FORMAT = 2
org LOAD
        dd 0x1badb002, 0x10003, -(0x1badb002 + 0x10003)
        dd LOAD, LOAD, pm_end, bss_end, entry
bits 32
entry:  mov esp, stack
        cmp eax, 0x2badb002
        jne bad
        cmp dword [bss], 0
        jne bad
        mov esi, [ebx + 16]             ; command line
        call puts
        mov ecx, [ebx + 20]             ; modules
        mov edi, [ebx + 24]
.next:  jecxz .done
        mov esi, [edi + 8]
        call puts
        mov esi, [edi]
        mov eax, [esi]
        call put
        mov esi, [edi + 4]
        sub esi, [edi]
        lea eax, [esi + '0']
        call put
        add edi, 16
        dec ecx
        jmp .next
.done:  mov eax, [ebx + 44]             ; memory map: whole entries, the first is RAM
        xor edx, edx
        mov ecx, 24
        div ecx
        test edx, edx
        jnz bad
        cmp eax, 2
        jb bad
        mov esi, [ebx + 48]
        cmp dword [esi], 20
        jne bad
        cmp dword [esi + 20], 1
        jne bad
        jmp good

%else
org LOAD
base:   db 0x7f, "ELF", 1, 1, 1
        times 16 - ($ - $$) db 0
        dw 2, 3
        dd 1, 0, headers - base, 0, 0
        dw 52, 32, 2, 0, 0, 0
headers: dd 1, 0, LOAD, LOAD, pm_end - base, bss_end - base, 7, 0x1000
        dd 4, note - base, 0, 0, note_end - note, note_end - note, 4, 4
note:   dd 4, 4, 18
        db "Xen", 0
        dd entry
note_end:
bits 32
entry:  mov esp, stack
        cmp dword [ebx], 0x336ec578
        jne bad
        cmp dword [bss], 0
        jne bad
        mov esi, [ebx + 24]             ; command line
        call puts
        mov edi, [ebx + 16]             ; module list
        mov esi, [edi]
        mov eax, [esi]
        call put
        mov esi, [ebx + 32]             ; ACPI root pointer
        cmp dword [esi], "RSD "
        jne bad
        cmp dword [ebx + 48], 2         ; memory map
        jb bad
        mov esi, [ebx + 40]
        cmp dword [esi + 16], 1
        jne bad
        jmp good
%endif

good:   mov eax, 10
        call put
        mov al, 0x10
        mov dx, EXIT
        out dx, al
bad:    mov al, 0x20
        mov dx, EXIT
        out dx, al
        hlt
puts:   mov al, [esi]
        add esi, 1
        test al, al
        jz .end
        call put
        jmp puts
.end:   mov al, 10
put:    mov dx, 0x3f8
        out dx, al
        ret
%if FORMAT = 1
text32: db "32-bit entry", 0
text64: db "64-bit entry", 0
%endif
        align 16
pm_end:
%if FORMAT != 1
absolute pm_end
bss:    resd 64
stack:
bss_end:
%endif
