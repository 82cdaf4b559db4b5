/* page.S - the page of pheap inspect --html as bytes, put together from this folder. */
        .section .rodata
        .globl  page_html
        .hidden page_html
page_html:
        .incbin "tools/page/head.html"
        .ascii  "<style>\n"
        .incbin "tools/page/style.css"
        .ascii  "</style>\n"
        .incbin "tools/page/body.html"
        .ascii  "<script>\n\"use strict\";\n"
        .incbin "tools/page/values.js"
        .incbin "tools/page/table.js"
        .incbin "tools/page/map.js"
        .incbin "tools/page/charts.js"
        .incbin "tools/page/flame.js"
        .incbin "tools/page/sections.js"
        .asciz  "</script>\n</body>\n</html>\n"
        .section .note.GNU-stack, "", @progbits
