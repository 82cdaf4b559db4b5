// templates.cc - what a compiler is given here: containers, algorithms and a recursion of templates.
// PERCENT is how far it goes.
#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

template <int N> struct layer {
    std::map<std::string, std::tuple<std::integral_constant<int, N>, std::string>> names;
    std::variant<int, std::string, std::shared_ptr<layer<N - 1>>> below;

    std::size_t count() const
    {
        std::vector<std::string> found;

        for (const auto &[name, value] : names)
            found.push_back(name + std::get<1>(value));
        std::sort(found.begin(), found.end(),
                  [](const auto &a, const auto &b) { return a.size() + N < b.size(); });
        if (auto *next = std::get_if<2>(&below))
            return found.size() + (*next)->count();
        return found.size();
    }
};

template <> struct layer<0> {
    std::size_t count() const
    {
        return 0;
    }
};

std::size_t count_all(const layer<(PERCENT + 19) / 20 + 1> &all)
{
    return all.count();
}
