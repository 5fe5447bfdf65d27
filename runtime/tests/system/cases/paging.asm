; Page entries: rights, accessed and dirty bits, NX, WP, SMEP, SMAP, reserved bits, large pages.
%define NXE 0x800
%define NX (1 << 63)
%macro access 7                         ; name, cpl, entry (flags), cr0 flips, cr4, efer, kind (0 read, 1 write, 2 rmw, 3 fetch, 4 locked, 5 push)
record %1, LONG, %2
preset PTE(1), DATA + 0x1000 | %3
reg rbx, DATA + 0x1000
with cr0, %4
with cr4, %5
with efer, %6
code
%if %7 == 0
        mov eax, [rbx]
%elif %7 == 1
        mov [rbx], eax
%elif %7 == 2
        add [rbx], eax
%elif %7 == 3
        call rbx
%elif %7 == 4
        lock xadd [rbx], eax
%else
        lea rsp, [rbx + 8]
        push rax
%endif
done
%endmacro
%macro kinds 6
%assign kind 0
%rep 6
        access %1, %2, %3, %4, %5, %6, kind
%assign kind kind + 1
%endrep
%endmacro
%assign p 0
%rep 8
        kinds 'pte0', 0, p, 0, 0, 0
        kinds 'pte3', 3, p, 0, 0, 0
        kinds 'wp0', 0, p, 0x10000, 0, 0
        kinds 'nx0', 0, p | NX, 0, 0, NXE
        kinds 'nx3', 3, p | NX, 0, 0, NXE
        kinds 'nxoff', 3, p | NX, 0, 0, 0
        kinds 'ad', 3, p | 0x60, 0, 0, 0
        kinds 'rsvd', 0, p | (1 << 51), 0, 0, 0
%assign p p + 1
%endrep
        kinds 'pat', 3, 0x87, 0, 0, 0
        kinds 'global', 3, 0x107, 0, 0x80, 0
        kinds 'ignored', 3, 0xE07 | (0x7FF << 52), 0, 0, 0
        kinds 'cache', 3, 0x1F, 0, 0, 0
; upper levels
%macro upper 7                          ; name, cpl, entry address, entry, cr0, efer, kind
record %1, LONG, %2
preset %3, %4
reg rbx, DATA + 0x1000
with cr0, %5
with efer, %6
code
%if %7 == 0
        mov eax, [rbx]
%elif %7 == 1
        mov [rbx], eax
%else
        jmp rbx
%endif
done
%endmacro
%assign kind 0
%rep 3
        upper 'pd_ro', 3, PD + 8, PT_DATA | 5, 0, 0, kind
        upper 'pd_sup', 3, PD + 8, PT_DATA | 3, 0, 0, kind
        upper 'pd_np', 3, PD + 8, PT_DATA | 6, 0, 0, kind
        upper 'pd_nx', 3, PD + 8, PT_DATA | 7 | NX, 0, NXE, kind
        upper 'pd_nxbad', 3, PD + 8, PT_DATA | 7 | NX, 0, 0, kind
        upper 'pd_2m', 3, PD + 8, DATA | 0x87, 0, 0, kind
        upper 'pd_2mro', 0, PD + 8, DATA | 0x85, 0x10000, 0, kind
        upper 'pd_2mrsv', 0, PD + 8, DATA | 0x2087, 0, 0, kind
        upper 'pd_2mpat', 0, PD + 8, DATA | 0x1087, 0, 0, kind
        upper 'pd_rsvd', 0, PD + 8, PT_DATA | 7 | (1 << 51), 0, 0, kind
        upper 'pt_ro_wp', 0, PTE(1), DATA | 0x1005, 0x10000, 0, kind
%assign kind kind + 1
%endrep
; SMEP and SMAP; the code page is the user's, so that only level 3 runs there with SMEP
%macro smap 5                           ; name, cpl, entry, flags, kind
record %1, LONG, %2
preset PTE(1), DATA + 0x1000 | %3
preset PT + 8 * (CODE >> 12), CODE | 7 - 4 * (%2 == 0)
reg rbx, DATA + 0x1000
with flags, %4
with cr4, 0x300000
%if %2 == 0
reg rsp, STACK0
%endif
code
%if %5 == 0
        mov eax, [rbx]
%elif %5 == 1
        mov [rbx], eax
%elif %5 == 2
        jmp rbx
%elif %5 == 3
        stac
        mov eax, [rbx]
        clac
        mov eax, [rbx]
%else
        lea rsp, [rbx + 8]
        push rax
%endif
done
%endmacro
%assign ac 0
%rep 2
%assign kind 0
%rep 5
%if kind != 4
        smap 'smap', 0, 7, 2 + 0x40000 * ac, kind
        smap 'smapk', 0, 3, 2 + 0x40000 * ac, kind
%endif
        smap 'smap3', 3, 7, 2 + 0x40000 * ac, kind
        smap 'smap3k', 3, 3, 2 + 0x40000 * ac, kind
%assign kind kind + 1
%endrep
%assign ac ac + 1
%endrep
record 'smep', LONG, 0
with cr4, 0x100000
code
        nop
done
; an access that crosses into a page with other rights
%macro crossing 3                       ; name, entry of the second page, instruction
record %1, LONG, 3
preset PTE(1), DATA + 0x1000 | %2
reg rbx, DATA + 0xFFC
code
        %3
done
%endmacro
        crossing 'xread', 6, {mov rax, [rbx]}
        crossing 'xwrite', 5, {mov [rbx], rax}
        crossing 'xrmw', 5, {add [rbx], rax}
        crossing 'xlock', 5, {lock add [rbx], rax}
        crossing 'xchg', 5, {xchg [rbx], rax}
        crossing 'xsse', 6, {nop}
        crossing 'xpush', 5, {push qword [rbx]}
        crossing 'xcmpx', 5, {cmpxchg [rbx], rcx}
        crossing 'xbts', 5, {bts [rbx], rcx}
; PAE and legacy
%macro old 6                            ; name, paging, entry address, entry, kind, cpl
record %1, PROT32, %6
with paging, %2
preset %3, %4
%if %3 == PD32 + 4
reg rbx, 0x400000
%else
reg rbx, DATA + 0x1000
%endif
code
%if %5 == 0
        mov eax, [ebx]
%elif %5 == 1
        mov [ebx], eax
%else
        jmp ebx
%endif
done
%endmacro
%assign kind 0
%rep 3
%assign p 0
%rep 8
        old 'pae', 2, PTE(1), DATA | 0x1000 | p, kind, 3
        old 'pae0', 2, PTE(1), DATA | 0x1000 | p, kind, 0
        old 'leg', 1, PTE32(1), DATA | 0x1000 | p | (DATA | 0x2007) << 32, kind, 3
        old 'leg0', 1, PTE32(1), DATA | 0x1000 | p | (DATA | 0x2007) << 32, kind, 0
%assign p p + 1
%endrep
        old 'paersv', 2, PTE(1), DATA | 0x1007 | (1 << 51), kind, 0
        old 'pae63', 2, PTE(1), DATA | 0x1007 | NX, kind, 0
        old 'pae2m', 2, PD + 8, DATA | 0x87, kind, 3
        old 'pse4m', 1, PD32 + 4, 0x87, kind, 3
        old 'pse36', 1, PD32 + 4, 0x2087, kind, 3
        old 'psersv', 1, PD32 + 4, 0x200087, kind, 3
%assign kind kind + 1
%endrep
; CR3 and the PDPTEs of PAE
%macro pdpte 2
record %1, PROT32, 0
with paging, 2
code
        mov dword [PDPT32], %2
        mov eax, cr3
        mov cr3, eax
done
%endmacro
        pdpte 'pdpte', PD | 1
        pdpte 'pdpte_w', PD | 3
        pdpte 'pdpte_u', PD | 5
        pdpte 'pdpte_a', PD | 0x21
        pdpte 'pdpte_g', PD | 0x101
        pdpte 'pdpte_c', PD | 0x19
        pdpte 'pdpte_i', PD | 0xE01
record 'stale', LONG, 0
reg rbx, DATA + 0x1000
code
        mov eax, [rbx]
        mov dword [PTE(1)], 0
        invlpg [rbx]
        mov eax, [rbx]
done
