/*  Lines of a real access log (2015) and what is in them.                     */
#pragma once
#include <stdint.h>

typedef struct {
    const char *line;
    int64_t ts_ms;
    const char *ip;
    const char *method;
    const char *path;
    int status;
    int64_t bytes; // -1: absent
    const char *referrer;
    const char *agent;
} clf_case;

static const clf_case clf_cases[] = {
    {"180.76.5.145 - - [18/May/2015:18:05:14 +0000] \"GET /files/fpm/?C=S;O=A HTTP/1.1\" "
     "200 1387 \"-\" \"Mozilla/5.0 (compatible; Baiduspider/2.0; "
     "+http://www.baidu.com/search/spider.html)\"",
     INT64_C(1431972314000), "180.76.5.145", "GET", "/files/fpm/?C=S;O=A", 200, 1387,
     NULL,
     "Mozilla/5.0 (compatible; Baiduspider/2.0; "
     "+http://www.baidu.com/search/spider.html)"},
    {"189.71.37.115 - - [20/May/2015:19:05:25 +0000] \"GET /images/web/2009/banner.png "
     "HTTP/1.1\" 200 52315 \"http://www.semicomplete.com/style2.css\" \"Mozilla/5.0 "
     "(X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0\"",
     INT64_C(1432148725000), "189.71.37.115", "GET", "/images/web/2009/banner.png", 200,
     52315, "http://www.semicomplete.com/style2.css",
     "Mozilla/5.0 (X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0"},
    {"176.14.63.246 - - [20/May/2015:12:05:05 +0000] \"GET /images/jordan-80.png "
     "HTTP/1.1\" 200 6146 \"http://semicomplete.com/blog/geekery/xvfb-firefox.html\" "
     "\"Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36\"",
     INT64_C(1432123505000), "176.14.63.246", "GET", "/images/jordan-80.png", 200, 6146,
     "http://semicomplete.com/blog/geekery/xvfb-firefox.html",
     "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36"},
    {"78.157.154.210 - - [18/May/2015:04:05:58 +0000] \"GET "
     "/files/xdotool/docs/html/doxygen.png HTTP/1.1\" 200 1281 "
     "\"http://www.semicomplete.com/files/xdotool/docs/html/\" \"Mozilla/5.0 (X11; "
     "Ubuntu; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0\"",
     INT64_C(1431921958000), "78.157.154.210", "GET",
     "/files/xdotool/docs/html/doxygen.png", 200, 1281,
     "http://www.semicomplete.com/files/xdotool/docs/html/",
     "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0"},
    {"130.237.218.86 - - [19/May/2015:12:05:18 +0000] \"GET "
     "/presentations/logstash-1/js/jquery.doubletap-0.1.js HTTP/1.1\" 200 3037 "
     "\"http://semicomplete.com/presentations/logstash-1/\" \"Mozilla/5.0 (Macintosh; "
     "Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/33.0.1750.91 "
     "Safari/537.36\"",
     INT64_C(1432037118000), "130.237.218.86", "GET",
     "/presentations/logstash-1/js/jquery.doubletap-0.1.js", 200, 3037,
     "http://semicomplete.com/presentations/logstash-1/",
     "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like "
     "Gecko) Chrome/33.0.1750.91 Safari/537.36"},
    {"212.180.233.101 - - [20/May/2015:20:05:39 +0000] \"GET /images/jordan-80.png "
     "HTTP/1.1\" 200 6146 "
     "\"http://www.semicomplete.com/articles/dynamic-dns-with-dhcp/\" \"Mozilla/5.0 "
     "(X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0\"",
     INT64_C(1432152339000), "212.180.233.101", "GET", "/images/jordan-80.png", 200, 6146,
     "http://www.semicomplete.com/articles/dynamic-dns-with-dhcp/",
     "Mozilla/5.0 (X11; Linux x86_64; rv:27.0) Gecko/20100101 Firefox/27.0"},
    {"188.165.243.45 - - [20/May/2015:02:05:18 +0000] \"GET /admin.php HTTP/1.1\" 404 "
     "289 \"-\" \"Mozilla/5.0 (Windows NT 6.0) AppleWebKit/537.1 (KHTML, like Gecko) "
     "Chrome/24.0.1309.0 Safari/537.17\"",
     INT64_C(1432087518000), "188.165.243.45", "GET", "/admin.php", 404, 289, NULL,
     "Mozilla/5.0 (Windows NT 6.0) AppleWebKit/537.1 (KHTML, like Gecko) "
     "Chrome/24.0.1309.0 Safari/537.17"},
    {"66.249.73.185 - - [20/May/2015:17:05:31 +0000] \"GET /files/logstash/ HTTP/1.1\" "
     "200 13316 \"-\" \"SAMSUNG-SGH-E250/1.0 Profile/MIDP-2.0 Configuration/CLDC-1.1 "
     "UP.Browser/6.2.3.3.c.1.101 (GUI) MMP/2.0 (compatible; Googlebot-Mobile/2.1; "
     "+http://www.google.com/bot.html)\"",
     INT64_C(1432141531000), "66.249.73.185", "GET", "/files/logstash/", 200, 13316, NULL,
     "SAMSUNG-SGH-E250/1.0 Profile/MIDP-2.0 Configuration/CLDC-1.1 "
     "UP.Browser/6.2.3.3.c.1.101 (GUI) MMP/2.0 (compatible; Googlebot-Mobile/2.1; "
     "+http://www.google.com/bot.html)"},
    {"46.105.14.53 - - [17/May/2015:19:05:34 +0000] \"GET /blog/tags/puppet?flav=rss20 "
     "HTTP/1.1\" 200 14872 \"-\" \"UniversalFeedParser/4.2-pre-314-svn "
     "+http://feedparser.org/\"",
     INT64_C(1431889534000), "46.105.14.53", "GET", "/blog/tags/puppet?flav=rss20", 200,
     14872, NULL, "UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/"},
    {"116.199.211.249 - - [20/May/2015:21:05:16 +0000] \"GET "
     "/presentations/logstash-scale11x/images/ahhh___rage_face_by_samusmmx-d5g5zap.png "
     "HTTP/1.1\" 200 175208 "
     "\"http://s-chassis.co.nz/viewtopic.php?f=16&t=9265&start=200\" \"Mozilla/5.0 "
     "(Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36\"",
     INT64_C(1432155916000), "116.199.211.249", "GET",
     "/presentations/logstash-scale11x/images/ahhh___rage_face_by_samusmmx-d5g5zap.png",
     200, 175208, "http://s-chassis.co.nz/viewtopic.php?f=16&t=9265&start=200",
     "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36"},
    {"85.170.84.143 - - [17/May/2015:12:05:30 +0000] \"GET /reset.css HTTP/1.1\" 200 "
     "1015 "
     "\"http://www.semicomplete.com/blog/geekery/"
     "xsendevent-xdotool-and-ld_preload.html\" \"Mozilla/5.0 (X11; Linux x86_64) "
     "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.107 Safari/537.36\"",
     INT64_C(1431864330000), "85.170.84.143", "GET", "/reset.css", 200, 1015,
     "http://www.semicomplete.com/blog/geekery/xsendevent-xdotool-and-ld_preload.html",
     "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36"},
    {"94.93.82.148 - - [20/May/2015:02:05:33 +0000] \"GET "
     "/presentations/logstash-puppetconf-2012/images/frontend-response-codes.png "
     "HTTP/1.1\" 200 52878 "
     "\"http://semicomplete.com/presentations/logstash-puppetconf-2012/\" \"Mozilla/5.0 "
     "(Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36\"",
     INT64_C(1432087533000), "94.93.82.148", "GET",
     "/presentations/logstash-puppetconf-2012/images/frontend-response-codes.png", 200,
     52878, "http://semicomplete.com/presentations/logstash-puppetconf-2012/",
     "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/32.0.1700.107 Safari/537.36"},
    {"201.242.142.135 - - [19/May/2015:11:05:10 +0000] \"GET /files/logstash/ HTTP/1.1\" "
     "200 13316 "
     "\"http://"
     "\\\\xe4\\\\xe5\\\\xe3\\\\xf2\\\\xff\\\\xf0\\\\xed\\\\xee\\\\xe5-"
     "\\\\xec\\\\xfb\\\\xeb\\\\xee.\\\\xf0\\\\xf4/\" \"Mozilla/5.0 (Windows NT 6.1; "
     "rv:11.0) Gecko/20100101 Firefox/11.0\"",
     INT64_C(1432033510000), "201.242.142.135", "GET", "/files/logstash/", 200, 13316,
     "http://"
     "\\xe4\\xe5\\xe3\\xf2\\xff\\xf0\\xed\\xee\\xe5-\\xec\\xfb\\xeb\\xee.\\xf0\\xf4/",
     "Mozilla/5.0 (Windows NT 6.1; rv:11.0) Gecko/20100101 Firefox/11.0"},
    {"218.30.103.62 - - [17/May/2015:11:05:11 +0000] \"GET /robots.txt HTTP/1.1\" 200 - "
     "\"-\" \"Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)\"",
     INT64_C(1431860711000), "218.30.103.62", "GET", "/robots.txt", 200, -1, NULL,
     "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)"},
    {"218.30.103.62 - - [17/May/2015:11:05:46 +0000] \"GET /robots.txt HTTP/1.1\" 200 - "
     "\"-\" \"Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)\"",
     INT64_C(1431860746000), "218.30.103.62", "GET", "/robots.txt", 200, -1, NULL,
     "Sogou web spider/4.0(+http://www.sogou.com/docs/help/webmasters.htm#07)"},
    {"89.170.74.95 - - [17/May/2015:16:05:27 +0000] \"HEAD /projects/xdotool/ HTTP/1.1\" "
     "200 - \"-\" \"Mozilla/5.0 (Windows NT 6.1; WOW64; rv:24.0) Gecko/20100101 "
     "Firefox/24.0\"",
     INT64_C(1431878727000), "89.170.74.95", "HEAD", "/projects/xdotool/", 200, -1, NULL,
     "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:24.0) Gecko/20100101 Firefox/24.0"},
    {"216.14.102.16 - - [17/May/2015:16:05:51 +0000] \"HEAD "
     "/blog/geekery/freebsd-ports-master-sites-sorting.html HTTP/1.1\" 200 - \"-\" "
     "\"distilator/0.1 (http://people.freebsd.org/~ehaupt/distilator/)\"",
     INT64_C(1431878751000), "216.14.102.16", "HEAD",
     "/blog/geekery/freebsd-ports-master-sites-sorting.html", 200, -1, NULL,
     "distilator/0.1 (http://people.freebsd.org/~ehaupt/distilator/)"},
    {"192.30.34.115 - - [17/May/2015:18:05:21 +0000] \"HEAD "
     "/blog/geekery/jquery-interface-puffer.html HTTP/1.1\" 200 - "
     "\"http://www.adictosalared.com\" \"Mozilla/5.0 (compatible; MSIE 9.0; Windows NT "
     "6.1; WOW64; Trident/5.0)\"",
     INT64_C(1431885921000), "192.30.34.115", "HEAD",
     "/blog/geekery/jquery-interface-puffer.html", 200, -1,
     "http://www.adictosalared.com",
     "Mozilla/5.0 (compatible; MSIE 9.0; Windows NT 6.1; WOW64; Trident/5.0)"},
    {"64.131.102.243 - - [20/May/2015:14:05:16 +0000] \"OPTIONS /projects/xdotool/ "
     "HTTP/1.1\" 500 626 \"-\" \"Microsoft Office Protocol Discovery\"",
     INT64_C(1432130716000), "64.131.102.243", "OPTIONS", "/projects/xdotool/", 500, 626,
     NULL, "Microsoft Office Protocol Discovery"},
};
