/*  redis_resp: what is said to a Redis server (RESP 2), and how its answers are judged.
 */
#pragma once
#include <hiredis/hiredis.h>
#include "actors/store.h"

/* --- Saying ------------------------------------------------------------------------ */

/*  Begins a command of so many words, which follow.                                */
void weir_redis_put_head(weir_buffer *out, size_t words);
void weir_redis_put_size(weir_buffer *out, size_t size); // of a word; it and an end of
                                                         // line follow
void weir_redis_put_word(weir_buffer *out, const void *data, size_t size);
void weir_redis_put_text(weir_buffer *out, const char *text);
void weir_redis_put_number(weir_buffer *out, uint64_t number);

/*  A whole command; the list of its words ends with NULL.                          */
void weir_redis_put_command(weir_buffer *out, const char *const *words);

/* --- Ids of entries ---------------------------------------------------------------- */

#define WEIR_REDIS_ID_MAX 42

/*  a-b, in text[WEIR_REDIS_ID_MAX]; gives its length.                              */
size_t weir_redis_id_put(weir_position id, char *text);
/*  False: it is none.                                                              */
bool weir_redis_id_read(weir_position *id, const redisReply *reply);
bool weir_redis_id_parse(weir_position *id, const char *text, size_t size);

/* --- Answers ----------------------------------------------------------------------- */

typedef enum {
    WEIR_REDIS_LATER, // another attempt may go well
    WEIR_REDIS_NEVER, // it will not until somebody mends it
    WEIR_REDIS_MOVED, // another server has the key
    WEIR_REDIS_NO_SCRIPT,
} weir_redis_verdict;

/*  Of the text of an error.                                                        */
weir_redis_verdict weir_redis_judge(const char *error);

/*  Whether it says that this user is not let in, or may not do this to any key.     */
bool weir_redis_is_locked_out(const char *error);

/*  Where MOVED leads, in host[256]; an empty host is the one that said it. False: it does
    not say.                                                                        */
bool weir_redis_moved(const char *error, char *host, uint16_t *port);

static inline bool weir_redis_is_text(const redisReply *reply)
{
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS;
}

/*  Whether a text is exactly this one.                                             */
bool weir_redis_says(const redisReply *reply, const char *text);
