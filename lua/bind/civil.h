/*  civil: days since 1970-01-01 and dates of the proleptic Gregorian calendar,
    after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
    https://howardhinnant.github.io/date_algorithms.html

    Years count from 1 March, so that the leap day is the last of its year; 400
    such years (an era) have 146097 days. Valid for years from 0 on, and for the
    year before (a time zone may reach there).                                 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define WEIR_DAY_MS INT64_C(86400000)

static inline bool weir_leap_year(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static inline int weir_month_days(int year, int month)
{
    static const uint8_t days[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month] + (month == 2 && weir_leap_year(year));
}

/*  Days from 1970-01-01 to the date. month 1..12, day 1..31.                  */
static inline int64_t weir_civil_days(int year, int month, int day)
{
    int64_t march_year = (int64_t)year + 400 - (month <= 2); // an era more: not negative
    int64_t era = march_year / 400, year_of_era = march_year % 400;
    int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    int64_t day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (era - 1) * 146097 + day_of_era - 719468;
}

/*  The date of a day, counted from 1970-01-01.                                */
static inline void weir_civil_date(int64_t days, int *year, int *month, int *day)
{
    int64_t shifted = days + 719468 + 146097;
    int64_t era = shifted / 146097, day_of_era = shifted % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year =
        day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t march_month = (5 * day_of_year + 2) / 153;
    *day = (int)(day_of_year - (153 * march_month + 2) / 5 + 1);
    *month = (int)(march_month < 10 ? march_month + 3 : march_month - 9);
    *year = (int)(year_of_era + era * 400 - 400 + (*month <= 2));
}
