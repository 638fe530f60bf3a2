# The sources of the CUDA device, for libakin-cuda.so and for the tests that run its kernels on the
# CPU. Their names here, without .cu.
set(cuda_kernels train_linear train_rows train_feed_forward train_attention train_heads_plain
  train_heads_tensor train_cross_entropy train_update train_device
  encode_linear encode_int8 encode_attention encode_rows encode_device
  search_rows search_many search_select search_one search_work search_device
  bandit_device user_device
  personal_query personal_rank personal_taste personal_device
  ivf_device ivf_prepare ivf_scan ivf_rank
  graph_device graph_mean graph_tower)
# Draws, users, sums over a past and inverted files have the bits of the CPU's: a multiply-add is
# fused where the source says so, only there.
set(cuda_kernels_unfused bandit_device user_device personal_query personal_rank personal_taste
  ivf_prepare ivf_rank)
# Without kernels; platform_cuda.cu, which the tests have another of, is not among them.
set(cuda_host_sources plugin fence ledger personal_check)
foreach(list cuda_kernels cuda_kernels_unfused cuda_host_sources)
  list(TRANSFORM ${list} PREPEND ${CMAKE_CURRENT_LIST_DIR}/)
  list(TRANSFORM ${list} APPEND .cu)
endforeach()
