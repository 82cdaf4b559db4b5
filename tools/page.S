/* page.S - tools/page.html as bytes, for inspect_html.c. */
        .section .rodata
        .globl  page_html
        .hidden page_html
page_html:
        .incbin "tools/page.html"
        .byte   0
        .section .note.GNU-stack, "", @progbits
