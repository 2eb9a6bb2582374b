/*  Certificates: what is read is well-formed, and written again it reads the same. */
#include "runtime/cert.h"
#include <string.h>

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[WEIR_CERT_TEXT_MAX];
    weir_cert cert, again;
    weir_report report;
    if (weir_cert_parse(&cert, (const char *)data, size, "x.pub", &report)) {
        CHECK(report.err == WEIR_EMALFORMED && *report.text);
        return 0;
    }
    CHECK(strlen(cert.public_key) == 40 && cert.roles < 16 && cert.expires_ms >= 0);
    CHECK(!*cert.name || weir_peer_name_is_good(cert.name));
    size_t printed = weir_cert_print(&cert, text);
    CHECK(weir_cert_parse(&again, text, printed, "x.pub", &report) == WEIR_OK);
    CHECK(strcmp(cert.name, again.name) == 0 && cert.roles == again.roles);
    CHECK(strcmp(cert.public_key, again.public_key) == 0);
    CHECK(strcmp(cert.secret_key, again.secret_key) == 0);
    CHECK(cert.expires_ms == again.expires_ms);
    return 0;
}
