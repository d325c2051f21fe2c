"""What RESULTS.md has measured of the trackers, with its commands and machines; the tests compare the two."""

# Mean over 18 real sequences
AUC = {
    "atom_multiscale": 0.655,
    "dimp18_heads": 0.628,
    "atom_multiscale_small": 0.627,
    "dimp_tiny": 0.614,
    "dimp18": 0.588,
    "thor_siamrpn_distilled": 0.559,
    "siamfc_distilled": 0.554,
    "atom": 0.537,
    "siamrpn_distilled": 0.536,
    "dasiamrpn_distilled": 0.529,
    "siamfc": 0.493,
    "thor_siamfc": 0.482,
    "siamrpnpp_mobilenetv2_1.0": 0.47,
    "memtrack": 0.468,
    "thor_siamrpnpp_mobilenetv2_1.0": 0.466,
}

# One target in 480 x 640 on two CPU cores
FRAMES_PER_SECOND = {
    "dimp_tiny": 53.5,
    "atom_multiscale": 34.8,
    "dimp18_heads": 29.2,
    "atom": 23.8,
    "atom_multiscale_small": 24.9,
    "dimp18": 22.8,
    "siamrpn_distilled": 20.9,
    "siamrpnpp_alexnet": 19.7,
    "siamrpnpp_mobilenetv2": 13.4,
    "siamrpn": 12.5,
    "siamrpnpp_mobilenetv2_1.0": 11.6,
    "siamfc": 11.5,
    "siamfc_distilled": 9.8,
    "thor_siamrpnpp_mobilenetv2_1.0": 9.3,
    "dimp50": 7.4,
    "thor_siamfc": 6.2,
    "siamrpnpp_resnet50": 2.9,
}
