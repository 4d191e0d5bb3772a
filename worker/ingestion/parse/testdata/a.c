#include <stdio.h>
#include "my.h"
#ifdef X
#define MAX(a,b) ((a)>(b)?(a):(b))
#define N 10
#endif
typedef struct point { int x; } point_t;
struct node { struct node *next; };
enum color { RED, GREEN };
union u { int a; };
/* adds */
static int *add(int a, int b) { return helper(a, b); }
int proto(void);
int global = 3;
#if 0
int hidden(void) { return 1; }
#else
int shown(void) { p->fn(1); return 2; }
#endif
