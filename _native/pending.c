#include "archive.h"
__attribute__ ((weak)) int archive_pack (int a, const char *b, int c, const struct pack_options *d, struct archive_error *e) { (void)a;(void)b;(void)c;(void)d;(void)e; return -38; }
__attribute__ ((weak)) int tree_diff (int a, const int *b, size_t c, int d, uint32_t e, struct archive_error *f) { (void)a;(void)b;(void)c;(void)d;(void)e;(void)f; return -38; }
__attribute__ ((weak)) int tree_usage (int a, struct tree_usage *b, struct archive_error *c) { (void)a;(void)b;(void)c; return -38; }
