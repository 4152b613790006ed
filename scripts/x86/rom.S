# What the emulated machine has in place of a BIOS: Linux' boot parameters, and the way from reset to its 32-bit entry
# (Documentation/x86/boot.rst). To be assembled with INITRD, INITRD_BYTES, MEMORY_BYTES and the files vmlinuz and cmdline.
    .code16
    .set ROM, 0xffff0000
    .set RAM, 0x10000       # where the ROM is copied to, for Linux to read its parameters
    .set KERNEL, 0x100000

# struct boot_params; its setup header is the kernel's own, but for what a boot loader fills in.
rom:
    .org 0x1e8
    .byte 2                 # entries of e820_table
    .org 0x1f1
    .incbin "vmlinuz", 0x1f1, 0x210 - 0x1f1
    .byte 0xff, 1           # an unknown loader; the kernel lies at 1 MiB
    .incbin "vmlinuz", 0x212, 0x218 - 0x212
    .long INITRD, INITRD_BYTES
    .incbin "vmlinuz", 0x220, 0x228 - 0x220
    .long RAM + (cmdline - rom)
    .incbin "vmlinuz", 0x22c, 0x290 - 0x22c
    .org 0x2d0              # e820_table
    .quad 0, 0x9f000
    .long 1
    .quad KERNEL, MEMORY_BYTES - KERNEL
    .long 1

    .org 0x1000
cmdline:
    .incbin "cmdline"
    .byte 0

    .org 0x2000
gdt:                        # code is 0x10, data 0x18: flat, 4 GiB
    .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:
    .word gdtr - gdt - 1
    .long ROM + (gdt - rom)

start:
    cli
    lgdtl %cs:(gdtr - rom)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x10, $(ROM + (protected - rom))

    .code32
protected:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    cld
    mov $ROM, %esi
    mov $RAM, %edi
    mov $(0x10000 / 4), %ecx
    rep movsl
    mov $RAM, %esi
    xor %ebx, %ebx
    xor %ebp, %ebp
    xor %edi, %edi
    mov $KERNEL, %eax
    jmp *%eax

    .code16
    .org 0xfff0             # where the CPU starts
    jmp start
    .org 0x10000
