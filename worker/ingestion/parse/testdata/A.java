package com.example.app;

import java.util.List;
import static org.junit.Assert.*;

/** Doc. */
@Service
public class A<T> extends Base implements Runnable, Comparable<A> {
    private int count = 0, other;
    /** makes */
    public A(int c) { super(c); this.count = c; }
    @Override
    public void run() { List.of(1); this.go(); new Foo().bar(); }
    enum Inner { X, Y; void f() {} }
    record P(int x) {}
}
interface I extends J, K { void m(); }
@interface Ann { String v(); }
