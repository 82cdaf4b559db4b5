/*
 * processor.c - see processor.h. Only features that code is chosen by are compared: bits that tell
 * of mitigations, of the hypervisor or of topology differ without harm. The names are those of
 * /proc/cpuinfo; the bits those of Intel's and AMD's manuals of the cpuid instruction.
 */
#include "core/process/processor.h"

#include <cpuid.h>
#include <stddef.h>
#include <string.h>

#define XCR0_USABLE (1u << 27) /* OSXSAVE, in leaf 1's ecx */

enum word { LEAF1_ECX, LEAF1_EDX, LEAF7_EBX, LEAF7_ECX, LEAF7_EDX, LEAF71_EAX, EXTENDED_ECX, XCR0 };

static const struct {
    uint8_t word, bit;
    const char *name;
} features[] = {
    {LEAF1_EDX, 25, "sse"},
    {LEAF1_EDX, 26, "sse2"},
    {LEAF1_ECX, 0, "sse3"},
    {LEAF1_ECX, 1, "pclmulqdq"},
    {LEAF1_ECX, 9, "ssse3"},
    {LEAF1_ECX, 12, "fma"},
    {LEAF1_ECX, 13, "cx16"},
    {LEAF1_ECX, 19, "sse4_1"},
    {LEAF1_ECX, 20, "sse4_2"},
    {LEAF1_ECX, 22, "movbe"},
    {LEAF1_ECX, 23, "popcnt"},
    {LEAF1_ECX, 25, "aes"},
    {LEAF1_ECX, 26, "xsave"},
    {LEAF1_ECX, 28, "avx"},
    {LEAF1_ECX, 29, "f16c"},
    {LEAF1_ECX, 30, "rdrand"},
    {LEAF7_EBX, 3, "bmi1"},
    {LEAF7_EBX, 4, "hle"},
    {LEAF7_EBX, 5, "avx2"},
    {LEAF7_EBX, 8, "bmi2"},
    {LEAF7_EBX, 9, "erms"},
    {LEAF7_EBX, 11, "rtm"},
    {LEAF7_EBX, 16, "avx512f"},
    {LEAF7_EBX, 17, "avx512dq"},
    {LEAF7_EBX, 18, "rdseed"},
    {LEAF7_EBX, 19, "adx"},
    {LEAF7_EBX, 21, "avx512ifma"},
    {LEAF7_EBX, 23, "clflushopt"},
    {LEAF7_EBX, 24, "clwb"},
    {LEAF7_EBX, 28, "avx512cd"},
    {LEAF7_EBX, 29, "sha_ni"},
    {LEAF7_EBX, 30, "avx512bw"},
    {LEAF7_EBX, 31, "avx512vl"},
    {LEAF7_ECX, 1, "avx512vbmi"},
    {LEAF7_ECX, 4, "ospke"},
    {LEAF7_ECX, 5, "waitpkg"},
    {LEAF7_ECX, 6, "avx512_vbmi2"},
    {LEAF7_ECX, 8, "gfni"},
    {LEAF7_ECX, 9, "vaes"},
    {LEAF7_ECX, 10, "vpclmulqdq"},
    {LEAF7_ECX, 11, "avx512_vnni"},
    {LEAF7_ECX, 12, "avx512_bitalg"},
    {LEAF7_ECX, 14, "avx512_vpopcntdq"},
    {LEAF7_ECX, 22, "rdpid"},
    {LEAF7_EDX, 4, "fsrm"},
    {LEAF7_EDX, 8, "avx512_vp2intersect"},
    {LEAF7_EDX, 22, "amx_bf16"},
    {LEAF7_EDX, 23, "avx512_fp16"},
    {LEAF7_EDX, 24, "amx_tile"},
    {LEAF7_EDX, 25, "amx_int8"},
    {LEAF71_EAX, 4, "avx_vnni"},
    {LEAF71_EAX, 5, "avx512_bf16"},
    {EXTENDED_ECX, 5, "abm"},
    {EXTENDED_ECX, 6, "sse4a"},
    {EXTENDED_ECX, 11, "xop"},
    {EXTENDED_ECX, 16, "fma4"},
    {EXTENDED_ECX, 21, "tbm"},
    {XCR0, 2, "the saving of avx registers"},
    {XCR0, 5, "the saving of avx512 registers"},
    {XCR0, 17, "the saving of amx tiles"},
};

static uint32_t read_xcr0(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

void processor_read(struct record_processor *out)
{
    uint32_t eax, ebx, ecx, edx, *words = out->words;

    memset(out, 0, sizeof *out);
    if (__get_cpuid(1, &eax, &ebx, &ecx, &edx)) {
        words[LEAF1_ECX] = ecx;
        words[LEAF1_EDX] = edx;
    }
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
        words[LEAF7_EBX] = ebx;
        words[LEAF7_ECX] = ecx;
        words[LEAF7_EDX] = edx;
        if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx))
            words[LEAF71_EAX] = eax;
    }
    if (__get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx))
        words[EXTENDED_ECX] = ecx;
    if (words[LEAF1_ECX] & XCR0_USABLE)
        words[XCR0] = read_xcr0();
}

const char *processor_lacks(const struct record_processor *then, const struct record_processor *now)
{
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        uint32_t bit = 1u << features[i].bit;
        uint32_t lost = then->words[features[i].word] & ~now->words[features[i].word];

        if (lost & bit)
            return features[i].name;
    }
    return NULL;
}
