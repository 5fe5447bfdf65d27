; Every mode once.
%assign n 0
%rep 4
record 'prot', PROT32, n
reg rax, 5
code
        add eax, ebx
        push eax
done
record 'prot16', PROT16, n
code
        add ax, bx
        push ax
done
record 'paged', PROT32, n
with paging, 1
reg rbx, DATA
code
        mov [ebx], eax
        mov [ebx + 0x1000], ebx
done
record 'pae', PROT32, n
with paging, 2
reg rbx, DATA
code
        mov [ebx], eax
done
record 'compat', COMPAT, n
reg rbx, DATA
code
        mov [ebx], eax
        push eax
done
record 'long', LONG, n
reg rbx, DATA
code
        mov [rbx], rax
        push rax
        mov r15, [gs:8]
done
%if n
record 'hlt', LONG, n
code
        hlt
done
%endif
%assign n n + 1
%endrep
record 'real', REAL, 0
code
        mov [bx], ax
        push dx
        mov eax, cr0
done
record 'v86', V86, 3
code
        mov [bx], ax
        push dx
        mov eax, cr0
done
