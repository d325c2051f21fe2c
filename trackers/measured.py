"""What RESULTS.md has measured of the trackers, with its commands and machines; the tests compare the two."""

# Mean over 18 real sequences
AUC = {
    "atom_multiscale": 0.656,
    "dimp18_heads": 0.635,
    "dimp18": 0.588,
    "atom_multiscale_tiny": 0.581,
    "dimp_tiny": 0.577,
    "atom": 0.537,
    "siamfc_distilled": 0.552,
    "dasiamrpn_distilled": 0.525,
    "siamrpn_distilled": 0.522,
    "thor_siamrpn_distilled": 0.521,
    "siamfc": 0.493,
    "thor_siamfc": 0.482,
    "siamrpnpp_mobilenetv2_1.0": 0.477,
    "thor_siamrpnpp_mobilenetv2_1.0": 0.473,
    "memtrack": 0.438,
}

# One target in 480 x 640 on two CPU cores
FRAMES_PER_SECOND = {
    "dimp_tiny": 84.3,
    "atom_multiscale": 24.4,
    "siamrpn_distilled": 18.0,
    "dimp18_heads": 15.3,
    "atom": 12.6,
    "siamrpn": 12.5,
    "siamrpnpp_alexnet": 12.5,
    "siamrpnpp_mobilenetv2_1.0": 11.6,
    "dimp18": 11.5,
    "thor_siamrpnpp_mobilenetv2_1.0": 9.3,
    "siamrpnpp_mobilenetv2": 7.1,
    "siamfc": 6.2,
    "thor_siamfc": 6.2,
    "siamfc_distilled": 6.2,
    "dimp50": 5.0,
    "siamrpnpp_resnet50": 1.9,
}
