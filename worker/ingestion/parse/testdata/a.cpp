#include <vector>
using namespace std;
namespace ns::sub {
/// Doc
template <typename T>
class Box : public Base, private Other<T> {
 public:
  Box(int a) : a_(a) {}
  ~Box();
  virtual int get() const { return a_; }
  static void make();
  int operator+(int b) { return b; }
 private:
  int a_;
};
void Box::make() { std::sort(x); obj.call(); new Foo(); }
template <class T> T id(T t) { return t; }
enum class E { A };
using Al = int;
}
extern "C" { void cfun(int); }
struct S { int v; };
