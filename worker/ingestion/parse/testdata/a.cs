using System;
using static System.Math;
using Al = System.Text;
namespace My.App
{
    /// <summary>Doc</summary>
    [Serializable]
    public class Foo<T> : Base, IThing
    {
        private int x = 1;
        public string Name { get; set; }
        public Foo(int a) : base(a) { Bar(); }
        public void Bar() { Console.WriteLine("x"); new Baz(); }
        public delegate void D();
        event Action E;
    }
    interface IThing : IOther { void Bar(); }
    struct S {}
    enum E { A }
    record R(int A);
}
