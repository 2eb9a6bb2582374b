#include "runtime/zap.h"
#include <stdio.h>

/*  Behind the route, which ROUTER puts before it.                             */
enum { DELIMITER, VERSION, ID, DOMAIN, ADDRESS, IDENTITY, MECHANISM, KEY, FRAMES };

/*  Of more frames than there may be only the number matters.                  */
static int recv_frames(zmq_msg_t frames[FRAMES], void *router, bool more)
{
    int count = 0;
    for (; more; count++) {
        zmq_msg_t surplus, *frame = count < FRAMES ? &frames[count] : &surplus;
        zmq_msg_init(frame);
        if (zmq_msg_recv(frame, router, ZMQ_DONTWAIT) < 0) break;
        more = zmq_msg_more(frame);
        if (frame == &surplus) zmq_msg_close(frame);
    }
    return count;
}

static void copy(char *text, size_t size, zmq_msg_t *frame)
{
    snprintf(text, size, "%.*s", (int)zmq_msg_size(frame),
             (const char *)zmq_msg_data(frame));
}

static weir_err read_frames(weir_zap_request *self, zmq_msg_t frames[FRAMES], int count)
{
    if (count > ID) zmq_msg_move(&self->id, &frames[ID]);
    if (count <= MECHANISM || count > FRAMES) return WEIR_EMALFORMED;
    if (zmq_msg_size(&frames[DELIMITER]) || zmq_msg_size(&frames[VERSION]) != 3 ||
        memcmp(zmq_msg_data(&frames[VERSION]), "1.0", 3))
        return WEIR_EMALFORMED;
    copy(self->domain, sizeof self->domain, &frames[DOMAIN]);
    copy(self->address, sizeof self->address, &frames[ADDRESS]);
    copy(self->mechanism, sizeof self->mechanism, &frames[MECHANISM]);
    if (strcmp(self->mechanism, "CURVE")) return WEIR_OK;
    if (count != FRAMES || zmq_msg_size(&frames[KEY]) != 32) return WEIR_EMALFORMED;
    zmq_z85_encode(self->key, zmq_msg_data(&frames[KEY]), 32);
    return WEIR_OK;
}

weir_err weir_zap_recv(weir_zap_request *self, void *router)
{
    zmq_msg_t frames[FRAMES];
    *self = (weir_zap_request){.domain = ""};
    zmq_msg_init(&self->route);
    zmq_msg_init(&self->id);
    if (zmq_msg_recv(&self->route, router, ZMQ_DONTWAIT) < 0) return WEIR_ENOTFOUND;
    int count = recv_frames(frames, router, zmq_msg_more(&self->route));
    weir_err err = read_frames(self, frames, count);
    for (int i = 0; i < count && i < FRAMES; i++)
        zmq_msg_close(&frames[i]);
    return err;
}

static void send_text(void *router, const void *data, size_t size, int more)
{
    zmq_send(router, data, size, more | ZMQ_DONTWAIT);
}

static size_t put_property(uint8_t *at, const char *name, const char *value)
{
    size_t name_size = strlen(name), size = strlen(value);
    *at++ = (uint8_t)name_size;
    memcpy(at, name, name_size);
    at += name_size;
    memcpy(at, (uint8_t[]){0, 0, 0, (uint8_t)size}, 4);
    memcpy(at + 4, value, size);
    return 1 + name_size + 4 + size;
}

/*  An answer to who has gone meanwhile is dropped by ROUTER.                   */
void weir_zap_answer(weir_zap_request *self, void *router, const char *name)
{
    uint8_t metadata[128];
    size_t size = name ? put_property(metadata, "Weir-Key", self->key) : 0;
    zmq_msg_send(&self->route, router, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    send_text(router, "", 0, ZMQ_SNDMORE);
    send_text(router, "1.0", 3, ZMQ_SNDMORE);
    zmq_msg_send(&self->id, router, ZMQ_SNDMORE | ZMQ_DONTWAIT);
    send_text(router, name ? "200" : "400", 3, ZMQ_SNDMORE);
    send_text(router, name ? "OK" : "refused", name ? 2 : 7, ZMQ_SNDMORE);
    send_text(router, name ? name : "", name ? strlen(name) : 0, ZMQ_SNDMORE);
    send_text(router, metadata, size, 0);
    zmq_msg_close(&self->route);
    zmq_msg_close(&self->id);
}
