// new_delete.cc - every form of new and delete, and what must happen when there is no memory.
// Prints TAP; knows nothing of pheap.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static int tests_run, tests_failed;

static void report(bool passed, const char *title)
{
    tests_run++;
    tests_failed += !passed;
    std::printf("%sok %d - %s\n", passed ? "" : "not ", tests_run, title);
    std::fflush(stdout);
}

static bool aligned(const void *pointer, std::size_t align)
{
    return pointer != nullptr && reinterpret_cast<std::uintptr_t>(pointer) % align == 0;
}

static std::size_t opaque(std::size_t bytes)
{
    __asm__ volatile("" : "+r"(bytes));
    return bytes;
}

static bool plain_forms(std::size_t bytes)
{
    void *blocks[6] = {::operator new(bytes),
                       ::operator new[](bytes),
                       ::operator new(bytes, std::nothrow),
                       ::operator new[](bytes, std::nothrow),
                       ::operator new(bytes),
                       ::operator new[](bytes)};
    bool fine = true;

    for (void *block : blocks)
        fine = fine && aligned(block, 16);
    ::operator delete(blocks[0]);
    ::operator delete[](blocks[1]);
    ::operator delete(blocks[2], std::nothrow);
    ::operator delete[](blocks[3], std::nothrow);
    ::operator delete(blocks[4], bytes);
    ::operator delete[](blocks[5], bytes);
    return fine;
}

static bool aligned_forms(std::size_t bytes, std::size_t align)
{
    const std::align_val_t value{align};
    void *blocks[6] = {::operator new(bytes, value),
                       ::operator new[](bytes, value),
                       ::operator new(bytes, value, std::nothrow),
                       ::operator new[](bytes, value, std::nothrow),
                       ::operator new(bytes, value),
                       ::operator new[](bytes, value)};
    bool fine = true;

    for (void *block : blocks)
        fine = fine && aligned(block, align);
    ::operator delete(blocks[0], value);
    ::operator delete[](blocks[1], value);
    ::operator delete(blocks[2], value, std::nothrow);
    ::operator delete[](blocks[3], value, std::nothrow);
    ::operator delete(blocks[4], bytes, value);
    ::operator delete[](blocks[5], bytes, value);
    return fine;
}

static bool all_forms()
{
    bool fine = true;

    for (std::size_t bytes = 0; bytes < 2000000; bytes = bytes * 3 + 1) {
        fine = fine && plain_forms(bytes);
        for (std::size_t align = 8; align <= 1 << 16; align *= 2)
            fine = fine && aligned_forms(bytes, align);
    }
    return fine;
}

static bool too_much_throws()
{
    const std::size_t much = opaque(std::size_t{1} << 50);

    try {
        ::operator delete(::operator new(much));
        return false;
    } catch (const std::bad_alloc &) {
    }
    try {
        ::operator delete(::operator new(much, std::align_val_t{64}), std::align_val_t{64});
        return false;
    } catch (const std::bad_alloc &) {
    }
    return ::operator new(much, std::nothrow) == nullptr;
}

static int handler_calls;

static void give_up_the_third_time()
{
    if (++handler_calls == 3)
        std::set_new_handler(nullptr);
}

static bool the_handler_is_called()
{
    std::set_new_handler(give_up_the_third_time);
    try {
        ::operator delete(::operator new(opaque(std::size_t{1} << 50)));
        return false;
    } catch (const std::bad_alloc &) {
        return handler_calls == 3;
    }
}

struct Loud {
    std::map<std::string, std::vector<std::string>> words;
    ~Loud() { words["last"].emplace_back(2000, 'x'); }
};

static thread_local Loud thread_words;

static bool thread_locals_allocate_when_they_end()
{
    for (int i = 0; i < 100; i++)
        std::thread([i] { thread_words.words[std::to_string(i)].emplace_back(100, 'y'); }).join();
    thread_words.words["first"].emplace_back(300, 'z');
    return true;
}

static bool exceptions_with_long_texts()
{
    std::size_t total = 0;

    for (int i = 0; i < 1000; i++) {
        try {
            throw std::runtime_error(std::string(static_cast<std::size_t>(i), 'e'));
        } catch (const std::exception &error) {
            total += std::string(error.what()).size();
        }
    }
    return total == 499500;
}

struct alignas(128) Wide {
    char bytes[200];
};

static bool over_aligned_objects()
{
    auto one = std::make_unique<Wide>();
    std::vector<Wide> many(50);

    return aligned(one.get(), 128) && aligned(many.data(), 128);
}

static Loud global_words;

int main()
{
    global_words.words["main"].emplace_back("here");
    report(all_forms(), "every form of new gives aligned blocks that its delete takes");
    report(too_much_throws(), "too much throws bad_alloc or gives null");
    report(the_handler_is_called(), "the new handler is called until it gives up");
    report(thread_locals_allocate_when_they_end(), "thread locals allocate when they end");
    report(exceptions_with_long_texts(), "exceptions are allocated and freed");
    report(over_aligned_objects(), "objects of large alignment are aligned");
    std::printf("1..%d\n", tests_run);
    return tests_failed != 0;
}
