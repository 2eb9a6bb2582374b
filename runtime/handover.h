/*  handover: tells ThreadSanitizer what libzmq, which is not instrumented, does not
    let it see: that a message sent through a pipe happens before its receipt.
    The address names the thing handed over. Nothing in other builds.          */
#pragma once

#if defined(__SANITIZE_THREAD__)
#define WEIR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#endif
#endif

#ifdef WEIR_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define weir_handover_give(address) __tsan_release((void *)(address))
#define weir_handover_take(address) __tsan_acquire((void *)(address))
#else
#define weir_handover_give(address) ((void)(address))
#define weir_handover_take(address) ((void)(address))
#endif
