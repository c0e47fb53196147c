"""The reference outputs of the original repositories, and gcf's names of those networks."""

NAMES = {
    "resnext101": "resnext101",
    "mobilenetv2_1.0x": "mobilenetv2",
    "shufflenetv2_2.0x": "shufflenetv2",
    "r2plus1d101_table3": "r2plus1d_101",
    "r2plus1d50_hara": "r2plus1d_50",
    "r2plus1d101_hara": "r2plus1d_101_hara",
    "r3d50_hara": "r3d_50",
    "r3d101_hara": "r3d_101",
}
