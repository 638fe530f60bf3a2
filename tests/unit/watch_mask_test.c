/* One case per rule of the masker, and what must stay as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "watch/mask.h"

struct mask_case {
    const char *text, *masked;
};

static void check(const struct mask_case *cases, size_t count)
{
    struct bytes out = {0};
    for (size_t i = 0; i < count; i++) {
        mask_text(cases[i].text, strlen(cases[i].text), &out);
        assert_false(out.failed);
        assert_string_equal(out.data, cases[i].masked);
    }
    bytes_deinit(&out);
}

#define CHECK(...)                                                                   \
    do {                                                                             \
        static const struct mask_case cases[] = {__VA_ARGS__};                       \
        check(cases, sizeof cases / sizeof cases[0]);                                \
    } while (0)

#define UUID "11760334-ac63-4cc8-9086-578422af8c99"

static void uuids(void **state)
{
    (void)state;
    CHECK({UUID, "<uuid>"}, {"[instance: " UUID "]", "[instance: <uuid>]"},
          {"files " UUID "_del", "files <uuid>_del"}, {"req-" UUID, "req-<uuid>"},
          {"vm" UUID "x", "vm<uuid>x"});
}

static void numbers(void **state)
{
    (void)state;
    CHECK({"", ""}, {"took 12 s", "took <n> s"}, {"took 0.58 s", "took <n> s"}, {"t=-5", "t=<n>"},
          {"blk_-123", "blk_<n>"}, {"blk_4567", "blk_<n>"},
          {"br0 br1 br-int", "br<n> br<n> br-int"}, {"1-2", "<n>-<n>"},
          {"v1.2.3.4.5", "v<n>.<n>.<n>"}, {"J12-U11", "J<n>-U<n>"});
}

static void hexadecimals(void **state)
{
    (void)state;
    CHECK({"at 0x0b85eee0, mask 0x05", "at <n>, mask <n>"},
          {"iar 0098bbcc dear fee1c7c", "iar <n> dear <n>"}, {"tap8327ce4e-4f", "tap<n>"},
          {"(tap8327ce4e-4f)", "(tap<n>)"}, {"tapdcdf1f2a-3c'", "tap<n>'"},
          {"tap12345678-4f tap12345678-45", "tap<n> tap<n>"}, {"12345678-1", "<n>-<n>"},
          {"qvb8327ce4e-4f qvbdcdf1f2a-3c", "qv<n> qv<n>"}, {"vethdeadbee", "vethdeadbee"},
          {"vethfacade12x", "vethfacade<n>x"}, {"d41d8cd98f00b204e9800998ecf8427e", "<n>"},
          {"core.1a2b", "core.<n>"}, {"feed face added deadbeef", "feed face added deadbeef"},
          {"8M", "<n>M"}, {"0xzz", "<n>xzz"});
}

static void addresses(void **state)
{
    (void)state;
    CHECK({"192.168.1.1", "<ip>"}, {"br0 192.168.1.1/24", "br<n> <ip>"},
          {"/10.251.43.21:50010", "/<ip>"}, {"fe80::f816:3eff:fe1c:aaaa/64", "<ip>"},
          {"::1", "<ip>"}, {"2001:db8:0:1:2:3:4:5", "<ip>"}, {"fa:16:3e:1c:aa:bb", "<mac>"},
          {"address=fa:16:3e:aa:e7:fc,x", "address=<mac>,x"}, {"00-1B-44-11-3A-B7", "<mac>"},
          {"at 12:34:56", "at <n>:<n>:<n>"}, {"std::string a::b", "std::string a::b"});
}

static void paths(void **state)
{
    (void)state;
    CHECK({"open /var/lib/nova/x.log failed", "open <path> failed"},
          {"Error loading /bgl/a.rts: invalid", "Error loading <path>: invalid"},
          {"file=\"/etc/x\"", "file=\"<path>\""}, {"load/store error", "load/store error"},
          {"a / b", "a / b"}, {"http://x.y/z", "http:<path>"});
}

static void times(void **state)
{
    (void)state;
    CHECK({"Nov 22 00:36:12 up", "<time> up"}, {"Nov  2 00:36:12 up", "<time> up"},
          {"Sun Nov 22 00:36:12 2026", "<time>"}, {"Sun, Nov 22 2026 00:36:12.5 x", "<time> x"},
          {"at Dec 1 10:00:00.123456: x", "at <time>: x"},
          {"2026-11-22T00:36:12.123Z", "<n>-<n>-<n>T<n>:<n>:<n>Z"}, {"May the 4", "May the <n>"},
          {"Marching 22 00:36:12 x", "Marching <n> <n>:<n>:<n> x"},
          {"Nov 22 00:36", "Nov <n> <n>:<n>"}, {"Sun", "Sun"},
          {"Sun Nov 22 00:36:1", "Sun Nov <n> <n>:<n>:<n>"});
}

static void names_and_keys(void **state)
{
    (void)state;
    CHECK({"mail from bob.42@example.org ok", "mail from <email> ok"},
          {"to=<a@b.de>, x", "to=<<email>>, x"}, {"user=eve@mail.example.com.", "user=<email>."},
          {"Started getty@tty1.service.", "Started getty@tty<n>.service."},
          {"root@host", "root@host"}, {"@x.de a@", "@x.de a@"},
          {"RSA SHA256:uJ3kQ0vX9aLmB2nC4dE5fG6hI7jK8lM9nO0pQ1rS2tU ok", "RSA SHA<n>:<key> ok"},
          {"SHA256:/J3kQ0vX9aLmB2nC4dE5fG", "SHA<n>:<key>"},
          {"SHA256:+J3kQ0vX9aLmB2nC4dE5fG", "SHA<n>:<key>"},
          {"CFV7eC/aGogb3yknG/gIQjYSIDTpllexxzu+rc/Log9", "<key>"},
          {"s/ihjOHBUmPVesTg/IuLVYLOGjaWETXJDBVOEmDKQwc", "<key>"},
          {"IllegalStateExceptionHandlerFactoryBean", "IllegalStateExceptionHandlerFactoryBean"},
          {"token=dGhpcyBpcyBhIHRva2VuIDEyMw==;", "token=<key>;"},
          {"NetworkManagerAccessPointProperties2Changed",
           "NetworkManagerAccessPointProperties<n>Changed"},
          {"https://host.example/a/b?x=1 got", "https:<path> got"},
          {"said 'br0 up' and \"192.168.0.1\"", "said 'br<n> up' and \"<ip>\""},
          {"[fe80::1]:8080 fe80::1%eth0", "[<ip>]:<n> <ip>%eth<n>"});
}

static void any_bytes(void **state)
{
    struct bytes out = {0};
    (void)state;
    mask_text("a\0" "1\xff 2", 6, &out);
    assert_int_equal(out.count, 10);
    assert_memory_equal(out.data, "a\0<n>\xff <n>", 10);
    static char digits[100000];
    memset(digits, ':', sizeof digits);
    mask_text(digits, sizeof digits, &out);
    memset(digits, '.', sizeof digits);
    mask_text(digits, sizeof digits, &out);
    for (size_t i = 0; i < sizeof digits; i++)
        digits[i] = i % 2 ? '@' : 'a';
    mask_text(digits, sizeof digits, &out);
    for (size_t i = 0; i < sizeof digits; i++)
        digits[i] = "/a-"[i % 3];
    mask_text(digits, sizeof digits, &out);
    for (size_t i = 0; i < sizeof digits; i++)
        digits[i] = "a+"[i % 2];
    mask_text(digits, sizeof digits, &out);
    memset(digits, 'f', sizeof digits);
    mask_text(digits, sizeof digits, &out); /* does not take the square of the length */
    assert_int_equal(out.count, sizeof digits);
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uuids), cmocka_unit_test(numbers), cmocka_unit_test(hexadecimals),
        cmocka_unit_test(addresses), cmocka_unit_test(paths), cmocka_unit_test(times),
        cmocka_unit_test(names_and_keys), cmocka_unit_test(any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
