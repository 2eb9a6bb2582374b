#include "lua/look.h"
#include <stdio.h>

weir_err weir_look_open(weir_look_doc *self, const void *text, size_t size)
{
    weir_err err = weir_json_scan(&self->index, text, size);
    self->root = (weir_value){.type = WEIR_MISSING};
    if (!err)
        weir_json_read((const uint8_t *)text + self->index.root, self->index.root_size,
                       &self->root);
    return err;
}

void weir_look_close(weir_look_doc *self)
{
    weir_json_index_fini(&self->index);
    *self = (weir_look_doc){0};
}

bool weir_look(const weir_value *map, const char *name, weir_value *value)
{
    weir_step step = {.name = (char *)name, .size = strlen(name)};
    *value = (weir_value){.type = WEIR_MISSING};
    return map->type == WEIR_MAP && weir_value_child(map, &step, value);
}

uint64_t weir_look_natural(const weir_value *value)
{
    return value->type == WEIR_UINT  ? value->natural
           : value->type == WEIR_INT ? (uint64_t)value->integer
                                     : 0;
}

uint64_t weir_look_number(const weir_value *map, const char *name)
{
    weir_value value;
    return weir_look(map, name, &value) ? weir_look_natural(&value) : 0;
}

bool weir_look_bool(const weir_value *map, const char *name)
{
    weir_value value;
    return weir_look(map, name, &value) && value.type == WEIR_BOOL && value.boolean;
}

const char *weir_look_copy(const weir_value *value, char *text, size_t size)
{
    weir_buffer scratch = {0};
    size_t length = 0;
    const char *found = "";
    if (value->type == WEIR_STR) found = weir_value_text(value, &scratch, &length);
    snprintf(text, size, "%.*s", (int)length, found);
    weir_buffer_fini(&scratch);
    return text;
}

const char *weir_look_text(const weir_value *map, const char *name, char *text,
                           size_t size)
{
    weir_value value;
    weir_look(map, name, &value);
    return weir_look_copy(&value, text, size);
}
