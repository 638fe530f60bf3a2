/* The tree against the known answers of Certificate Transparency's own tests, its proofs against
 * each other for every small size, notes against Go's published example, entries and names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "audit/journal.h"
#include "audit/tiles.h"

static void expect_hex(const struct tree_hash *hash, const char *hex)
{
    char text[65];
    for (size_t i = 0; i < sizeof hash->bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", hash->bytes[i]);
    assert_string_equal(text, hex);
}

static void test_known_roots(void **state)
{
    static const struct {
        const char *leaf;
        size_t bytes;
    } leaves[] = {
        {"", 0}, {"\x00", 1}, {"\x10", 1}, {"\x20\x21", 2}, {"\x30\x31", 2},
        {"\x40\x41\x42\x43", 4}, {"\x50\x51\x52\x53\x54\x55\x56\x57", 8},
        {"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f", 16}};
    static const char *const roots[] = {
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    };
    struct tree_edge edge = {0};
    struct tree_hash root, leaf;
    (void)state;
    for (size_t i = 0; i <= 8; i++) {
        tree_edge_root(&edge, &root);
        expect_hex(&root, roots[i]);
        if (i < 8) {
            tree_leaf(leaves[i].leaf, leaves[i].bytes, &leaf);
            tree_edge_add(&edge, &leaf, NULL, NULL);
        }
    }
}

/* ---- proofs ------------------------------------------------------------------------------ */

enum { SIZES = 70 };
static struct tree_hash made_leaves[SIZES];

static enum akin_status made_node(void *context, unsigned height, uint64_t index,
                                  struct tree_hash *out, struct akin_error *error)
{
    (void)context;
    (void)error;
    tree_of(made_leaves + (index << height), height, out);
    return AKIN_OK;
}

static void make_roots(struct tree_hash roots[SIZES + 1])
{
    struct tree_edge edge = {0};
    for (size_t i = 0; i <= SIZES; i++) {
        tree_edge_root(&edge, &roots[i]);
        if (i == SIZES)
            break;
        tree_leaf(&i, sizeof i, &made_leaves[i]);
        tree_edge_add(&edge, &made_leaves[i], NULL, NULL);
    }
}

static void expect_only(const struct tree_hash *roots, uint64_t index, uint64_t size,
                        struct tree_proof *proof)
{
    const struct tree_hash *leaf = &made_leaves[index];
    assert_true(tree_check(leaf, index, size, &roots[size], proof));
    assert_false(tree_check(leaf, index, size, &roots[size - 1], proof));
    assert_false(tree_check(&made_leaves[(index + 1) % SIZES], index, size, &roots[size], proof));
    if (proof->count == 0)
        return;
    assert_false(tree_check(leaf, index ^ 1, size, &roots[size], proof));
    proof->hashes[proof->count / 2].bytes[5] ^= 1;
    assert_false(tree_check(leaf, index, size, &roots[size], proof));
    proof->hashes[proof->count / 2].bytes[5] ^= 1;
    proof->count--;
    assert_false(tree_check(leaf, index, size, &roots[size], proof));
}

static void test_proofs(void **state)
{
    struct tree_source source = {NULL, made_node};
    struct tree_hash roots[SIZES + 1];
    struct tree_proof proof;
    (void)state;
    make_roots(roots);
    for (uint64_t size = 1; size <= SIZES; size++) {
        for (uint64_t index = 0; index < size; index++) {
            assert_int_equal(tree_prove(&source, index, size, &proof, NULL), AKIN_OK);
            expect_only(roots, index, size, &proof);
        }
        for (uint64_t from = 0; from <= size; from++) {
            assert_int_equal(tree_prove_growth(&source, from, size, &proof, NULL), AKIN_OK);
            assert_true(tree_check_growth(from, &roots[from], size, &roots[size], &proof));
            if (from == 0 || from == size)
                continue;
            assert_false(tree_check_growth(from, &roots[from - 1], size, &roots[size], &proof));
            assert_false(tree_check_growth(from, &roots[from], size, &roots[size - 1], &proof));
            proof.hashes[0].bytes[0] ^= 1;
            assert_false(tree_check_growth(from, &roots[from], size, &roots[size], &proof));
        }
    }
    assert_false(tree_check_growth(3, &roots[3], 2, &roots[2], &(struct tree_proof){0}));
    assert_false(tree_check(&made_leaves[0], 5, 5, &roots[5], &(struct tree_proof){0}));
}

/* ---- notes ------------------------------------------------------------------------------- */

static void test_go_example(void **state)
{
    static const char key_text[] =
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    static const char text[] = "If you think cryptography is the answer to your problem,\n"
                               "then you don't know what your problem is.\n";
    static const char line[] =
        "\xe2\x80\x94 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZ"
        "SNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
    struct public_key key;
    struct note_signature signature;
    struct akin_error error;
    char again[AKIN_AUDIT_KEY_TEXT_BYTES];
    (void)state;
    assert_int_equal(public_key_parse(key_text, sizeof key_text - 1, "key", &key, &error), AKIN_OK);
    public_key_text(&key, again);
    assert_string_equal(again, key_text);
    assert_true(note_signature_parse(line, sizeof line - 1, &signature));
    assert_true(note_signature_by(&signature, &key));
    assert_true(signature_valid(&key, text, sizeof text - 1, signature.bytes));
    assert_false(signature_valid(&key, text, sizeof text - 2, signature.bytes));
    for (size_t i = 0; i < sizeof key_text - 1; i++) {
        char changed[sizeof key_text];
        memcpy(changed, key_text, sizeof changed);
        changed[i] ^= 1;
        assert_int_equal(public_key_parse(changed, sizeof changed - 1, "key", &key, &error),
                         AKIN_FORMAT);
    }
}

static void test_checkpoint_spelling(void **state)
{
    struct signer signer;
    struct tree_hash root;
    struct bytes text = {0}, note = {0};
    struct checkpoint c;
    unsigned char signature[SIGNATURE_BYTES];
    struct akin_error error;
    (void)state;
    tree_leaf("x", 1, &root);
    assert_int_equal(signer_create("example.com/log", &signer, &error), AKIN_OK);
    checkpoint_text(&text, "example.com/log", 12, &root);
    signer_sign(&signer, text.data, text.count, signature);
    checkpoint_note(&note, "example.com/log", 12, &root, &signer.key, signature);
    assert_int_equal(checkpoint_parse(note.data, note.count, "note", &c, &error), AKIN_OK);
    assert_int_equal(c.size, 12);
    assert_true(checkpoint_has(&c, &signer.key));
    /* Every other spelling is refused, or is a note that the key has not signed. */
    for (size_t i = 0; i < note.count; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            note.data[i] ^= (char)(1u << bit);
            if (checkpoint_parse(note.data, note.count, "note", &c, &error) == AKIN_OK)
                if (checkpoint_has(&c, &signer.key))
                    fail_msg("byte %zu, bit %u", i, bit);
            note.data[i] ^= (char)(1u << bit);
        }
    for (size_t count = 0; count < note.count; count++)
        assert_int_not_equal(checkpoint_parse(note.data, count, "note", &c, &error), AKIN_OK);
    bytes_deinit(&text);
    bytes_deinit(&note);
}

/* ---- entries, names ---------------------------------------------------------------------- */

static void test_entries(void **state)
{
    struct bytes out = {0};
    struct entry in = {.time_us = -5, .source = "src", .source_bytes = 3, .cursor = "c",
                       .cursor_bytes = 1, .data = (const unsigned char *)"a\0b", .bytes = 3};
    struct entry read;
    const unsigned char *begin;
    size_t bytes, at = 0;
    (void)state;
    entry_append(&out, &in);
    assert_null(entry_next((unsigned char *)out.data, out.count, &at, &read, &begin, &bytes));
    assert_int_equal(at, out.count);
    assert_int_equal(read.time_us, -5);
    assert_int_equal(read.source_bytes, 3);
    assert_int_equal(read.cursor_bytes, 1);
    assert_memory_equal(read.data, "a\0b", 3);
    for (size_t count = 0; count < out.count; count++) {
        at = 0;
        assert_non_null(entry_next((unsigned char *)out.data, count, &at, &read, &begin, &bytes));
    }
    in.bytes = ENTRY_BYTES_MAX - 12 - 4;
    assert_false(entry_is_large(&in));
    in.bytes++;
    assert_true(entry_is_large(&in));
    bytes_deinit(&out);
}

static void test_names(void **state)
{
    static const struct {
        const char *path;
        int level;
        uint64_t number;
        size_t width;
    } good[] = {
        {"tile/0/000", 0, 0, 256},
        {"tile/0/255.p/7", 0, 255, 7},
        {"tile/3/x001/234", 3, 1234, 256},
        {"tile/entries/x001/x234/067.p/255", TILE_ENTRIES, 1234067, 255},
    };
    static const char *const bad[] = {
        "tile/0/0",
        "tile/0/00",
        "tile/8/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/00/000",
        "tile/entries/",
        "",
        "tile/0/x99999999999999999999/000",
        "tiles/0/000",
        "tile/0/000 ",
    };
    char path[TILE_PATH_BYTES];
    int level;
    uint64_t number;
    size_t width;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        tile_path(path, good[i].level, good[i].number, good[i].width);
        assert_string_equal(path, good[i].path);
        assert_true(tile_path_parse(path, &level, &number, &width));
        assert_int_equal(level, good[i].level);
        assert_int_equal(number, good[i].number);
        assert_int_equal(width, good[i].width);
    }
    tile_path(path, 0, UINT64_MAX / 256, 1);
    assert_true(tile_path_parse(path, &level, &number, &width) && number == UINT64_MAX / 256);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(tile_path_parse(bad[i], &level, &number, &width));
}

static void test_cursors(void **state)
{
    struct cursors cursors = {0}, again = {0};
    struct bytes out = {0}, out_again = {0};
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        char source[16], cursor[16];
        struct entry entry = {.source = source, .cursor = cursor};
        entry.source_bytes = (size_t)snprintf(source, sizeof source, "s%u", i % 100);
        entry.cursor_bytes = (size_t)snprintf(cursor, sizeof cursor, "%u", i * i);
        assert_int_equal(cursors_take(&cursors, &entry, NULL), AKIN_OK);
    }
    const struct cursor *found = cursors_find(&cursors, "s99", 3);
    assert_non_null(found);
    assert_memory_equal(found->text, "89401", 5);
    cursors_append(&cursors, &out);
    assert_true(cursors_read(&again, (unsigned char *)out.data, out.count));
    cursors_append(&again, &out_again);
    assert_int_equal(out.count, out_again.count);
    assert_memory_equal(out.data, out_again.data, out.count);
    struct cursors cut = {0};
    assert_false(cursors_read(&cut, (unsigned char *)out.data, out.count - 1));
    cursors_deinit(&cut);
    bytes_deinit(&out);
    bytes_deinit(&out_again);
    cursors_deinit(&cursors);
    cursors_deinit(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_roots), cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_go_example),  cmocka_unit_test(test_checkpoint_spelling),
        cmocka_unit_test(test_entries),     cmocka_unit_test(test_names),
        cmocka_unit_test(test_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
