<?php
namespace App\Models;
use Foo\Bar;
use Foo\{A, B as C};
require_once 'x.php';
/** Doc */
#[Attr]
abstract class User extends Model implements X, Y {
    use SomeTrait;
    const K = 1;
    private $p = 1;
    public function go(int $a): string { $this->run(); helper(); User::make(); return new Foo(); }
}
interface I extends J { public function m(); }
trait T { function t() {} }
enum Suit { case A; }
function free() { return 1; }
const Z = 1;
