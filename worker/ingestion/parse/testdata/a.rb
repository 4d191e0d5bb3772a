require 'json'
require_relative "./lib/x"
# Doc
module M
  class Foo < Base
    include Comparable
    CONST = 1
    attr_reader :a
    # says
    def hi(a)
      puts helper(a)
      self.other
    end
    def self.make; new; end
  end
end
def top; end
