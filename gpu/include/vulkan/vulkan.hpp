// Debian 12 and Raspberry Pi OS 12 ship Vulkan headers 1.3.239. ggml also names VK_EXT_layer_settings, which came with 1.3.268,
// only to fill a structure that it gives to vkCreateInstance; a loader without the extension skips it. Declare just that.
#include_next <vulkan/vulkan.hpp>
#if !defined(VK_EXT_layer_settings)
namespace vk {
enum class LayerSettingTypeEXT { eBool32 = 0 };
struct LayerSettingEXT {
    const char *layer;
    const char *setting;
    LayerSettingTypeEXT type;
    uint32_t count;
    const void *values;
};
struct LayerSettingsCreateInfoEXT {
    VkStructureType sType = static_cast<VkStructureType>(1000496000);
    const void *pNext = nullptr;
    uint32_t count;
    const LayerSettingEXT *settings;
    template <typename Settings>
    LayerSettingsCreateInfoEXT(const Settings &all) : count(static_cast<uint32_t>(all.size())), settings(all.data()) {}
};
} // namespace vk
#endif
