/*  help_pattern: every function of the string library that takes patterns, on one
    subject, pattern, replacement and init; all that they give, as one text.   */
#pragma once

static const char help_pattern_probe[] =
    "local s, p, r, i = ...\n"
    "local out = {}\n"
    "local function add (...)\n"
    " for k = 1, select ('#', ...) do\n"
    "  local v = select (k, ...)\n"
    "  out[#out + 1] = math.type (v) or type (v)\n"
    "  out[#out + 1] = tostring (v) end\n"
    " out[#out + 1] = ';' end\n"
    "add (pcall (string.find, s, p, i))\n"
    "add (pcall (string.find, s, p, i, true))\n"
    "add (pcall (string.match, s, p, i))\n"
    "add (pcall (string.gsub, s, p, r))\n"
    "add (pcall (string.gsub, s, p, r, i))\n"
    "add (pcall (string.gsub, s, p, {a = 'A', ab = 7, [1] = 'one', [''] = false}))\n"
    "add (pcall (string.gsub, s, p, function (...)\n"
    " add (...) if select ('#', ...) < 3 then return (...) end end))\n"
    "add (pcall (function () local n = 0\n"
    " for a, b, c in s:gmatch (p) do add (a, b, c) n = n + 1 if n > 50 then break end"
    " end end))\n"
    "add (pcall (function ()\n"
    " for a, b, c in s:gmatch (p, i) do add (a, b, c) end end))\n"
    "return table.concat (out, ' ')\n";
