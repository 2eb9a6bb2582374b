#include "runtime/nearest.h"
#include <string.h>

enum { size_max = 64 };

static int min(int a, int b)
{
    return a < b ? a : b;
}

/*  The unrestricted distance: edits may fall between transposed bytes. Cell
    [i + 1][j + 1] is the distance of the first i and j bytes; row and column 0 are
    a fence higher than any distance.                                          */
static int distance(const char *a, int a_size, const char *b, int b_size)
{
    int cells[size_max + 2][size_max + 2];
    int rows[256] = {0}; // by byte: the last i where a has it
    for (int i = 0; i <= a_size; i++) {
        cells[i + 1][0] = a_size + b_size;
        cells[i + 1][1] = i;
    }
    for (int j = 0; j <= b_size; j++) {
        cells[0][j + 1] = a_size + b_size;
        cells[1][j + 1] = j;
    }
    cells[0][0] = a_size + b_size;
    for (int i = 1; i <= a_size; i++) {
        int column = 0; // the last j before this one where b has a's byte i
        for (int j = 1; j <= b_size; j++) {
            int row = rows[(unsigned char)b[j - 1]];
            int swapped = cells[row][column] + (i - row - 1) + 1 + (j - column - 1);
            int changed = cells[i][j] + (a[i - 1] != b[j - 1]);
            int shorter = min(cells[i][j + 1], cells[i + 1][j]) + 1;
            cells[i + 1][j + 1] = min(min(swapped, changed), shorter);
            if (a[i - 1] == b[j - 1]) column = j;
        }
        rows[(unsigned char)a[i - 1]] = i;
    }
    return cells[a_size + 1][b_size + 1];
}

const char *weir_nearest(const char *word, const char *const *names, size_t count)
{
    size_t size = strlen(word);
    if (size == 0 || size > size_max) return NULL;
    int allowed = size < 2 ? 0 : size < 6 ? 1 : (int)size / 3;
    int best = allowed + 1;
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(names[i]);
        if (other > size_max) continue;
        int found = distance(word, (int)size, names[i], (int)other);
        if (found >= best) continue;
        best = found;
        nearest = names[i];
    }
    return nearest;
}
