# The tests of src/compute: inner loops per instruction set, the backend, and the audit of what the
# compiler made of the instruction sets' files. 77 is "this machine lacks it", shown as skipped.
add_executable(kernelcheck kernelcheck.c kernelcheck_attend.c kernelcheck_narrow.c kernelcheck_scan.c
  kernelcheck_pq.c kernelcheck_beta.c kernelcheck_graph.c kernelcheck_train.c kernelcheck_train_rows.c
  kernelbench.c)
target_link_libraries(kernelcheck akin_compute)
# The AMX kernels a second time, over tiles in plain C: they can be checked on any processor.
add_library(amx_emulated OBJECT ${PROJECT_SOURCE_DIR}/src/compute/cpu/kernels_amx.c)
target_include_directories(amx_emulated PRIVATE ${PROJECT_SOURCE_DIR}/src
  ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(amx_emulated PRIVATE AKIN_AMX_EMULATION="amx_emulation.h"
  kernels_use_amx=kernels_use_amx_emulated)
target_sources(kernelcheck PRIVATE $<TARGET_OBJECTS:amx_emulated>)
foreach(level ref avx2 avx512 amx amx-emulated)
  add_test(NAME kernelcheck.${level} COMMAND kernelcheck --level ${level})
  set_tests_properties(kernelcheck.${level} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()

add_executable(backendcheck backendcheck.c)
target_link_libraries(backendcheck akin_compute)
target_sources(backendcheck PRIVATE $<TARGET_OBJECTS:amx_emulated>)
foreach(level ref avx2 avx512 amx amx-emulated)
  add_test(NAME backendcheck.${level} COMMAND backendcheck --level ${level})
  set_tests_properties(backendcheck.${level} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()

# Devices against the CPU or the formula in double, on a card where there is one.
set(device_checks encode_devicecheck search_devicecheck bandit_devicecheck user_devicecheck
  personal_devicecheck ivf_devicecheck graph_devicecheck)
foreach(check ${device_checks} encode_modelcheck)
  add_executable(${check} ${check}.c device_check.c)
  target_link_libraries(${check} akin_model akin_index)
endforeach()
foreach(check ${device_checks})
  add_test(NAME ${check}.cuda COMMAND ${check} cuda)
  set_tests_properties(${check}.cuda PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
endforeach()
# Training devices: each against the plain one, which is held to finite differences.
add_executable(train_devicecheck train_devicecheck.c train_trials.c)
target_link_libraries(train_devicecheck akin_compute)
add_test(NAME train_devicecheck.reference COMMAND train_devicecheck reference)
set_tests_properties(train_devicecheck.reference PROPERTIES TIMEOUT 300)
foreach(level ref avx2 avx512)
  foreach(device cpu-fp32 cpu-bf16)
    set(test train_devicecheck.${device}.${level})
    add_test(NAME ${test} COMMAND train_devicecheck ${device} --level ${level})
    set_tests_properties(${test} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
  endforeach()
endforeach()

# What a card holds when everything is resident; several contexts on one card, some of which fail.
foreach(check cardmemory encode_contextcheck)
  add_executable(${check} ${check}.c device_check.c)
  target_link_libraries(${check} akin_model)
endforeach()

# The kernels of the CUDA device, thread by thread on the CPU (cuda_emulation/emulation.cuh).
include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER AND NOT AKIN_FUZZ)
  enable_language(CXX)
  include(${PROJECT_SOURCE_DIR}/src/compute/cuda/sources.cmake)
  # Accesses tell emulation_races.cc of themselves; nothing of that sanitizer is linked. Sanitizers
  # that are asked for look at accesses in their own way instead.
  # Calls are told of nowhere: TSan would lose its count of them where fibers change.
  set(told -x c++)
  set(uncounted)
  if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
    set(uncounted --param=tsan-instrument-func-entry-exit=0)
  endif()
  if(NOT AKIN_SANITIZE)
    list(APPEND told -fsanitize=thread -fsanitize=alignment -fsanitize-undefined-trap-on-error
      ${uncounted})
    set_source_files_properties(cuda_emulation/emulation_races.cc
      cuda_emulation/emulation_check.cc PROPERTIES
      COMPILE_DEFINITIONS AKIN_EMULATION_TOLD)
  elseif(AKIN_SANITIZE MATCHES thread)
    list(APPEND told ${uncounted})
    set_source_files_properties(cuda_emulation/emulation.cc PROPERTIES
      COMPILE_OPTIONS "${uncounted}")
  endif()
  set_source_files_properties(${cuda_kernels} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${told}")
  set_source_files_properties(${cuda_host_sources} PROPERTIES LANGUAGE CXX
    COMPILE_OPTIONS "-x;c++")
  add_library(cuda_emulated STATIC ${cuda_kernels} ${cuda_host_sources}
    cuda_emulation/emulation.cc cuda_emulation/emulation_races.cc cuda_emulation/platform.cc
    cuda_emulation/cards.cc)
  set_target_properties(cuda_emulated PROPERTIES CXX_STANDARD 17 COMPILE_FLAGS -O2)
  add_executable(emulation_check cuda_emulation/emulation_check.cc)
  set_source_files_properties(cuda_emulation/emulation_check.cc PROPERTIES
    COMPILE_OPTIONS "${told}")
  target_link_libraries(emulation_check cuda_emulated)
  add_test(NAME cuda.emulation COMMAND emulation_check)
  add_executable(fence_check cuda_emulation/fence_check.cc)
  target_link_libraries(fence_check cuda_emulated)
  add_test(NAME cuda.fence COMMAND fence_check)
  target_include_directories(cuda_emulated PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/cuda_emulation)
  target_link_libraries(cuda_emulated PUBLIC akin_compute)
  # A libakin-cuda.so with cards that are made up, for whole commands (cuda_emulation/cards.h).
  add_library(cuda_emulated_plugin MODULE ${PROJECT_SOURCE_DIR}/src/compute/cuda/plugin.cu)
  set_target_properties(cuda_emulated_plugin PROPERTIES OUTPUT_NAME akin-cuda-emulated
    CXX_STANDARD 17)
  target_include_directories(cuda_emulated_plugin PRIVATE
    ${CMAKE_CURRENT_SOURCE_DIR}/cuda_emulation)
  target_link_libraries(cuda_emulated_plugin PRIVATE cuda_emulated)
  if(TARGET akin)
    add_test(NAME cli.cards COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/python.sh
      ${CMAKE_CURRENT_SOURCE_DIR}/cli/cards_test.py
      $<TARGET_FILE:akin> $<TARGET_FILE:cuda_emulated_plugin>
      ${PROJECT_SOURCE_DIR}/tests/fixtures/models/tiny-bert $<TARGET_FILE:encode_contextcheck>)
    set_tests_properties(cli.cards PROPERTIES TIMEOUT 300)
  endif()
  add_executable(train_devicecheck_emulated train_devicecheck.c train_trials.c)
  target_compile_definitions(train_devicecheck_emulated PRIVATE AKIN_CUDA_EMULATED)
  set_target_properties(train_devicecheck_emulated PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(train_devicecheck_emulated cuda_emulated)
  foreach(check ${device_checks} encode_modelcheck)
    add_executable(${check}_emulated ${check}.c device_check.c)
    target_compile_definitions(${check}_emulated PRIVATE AKIN_CUDA_EMULATED)
    set_target_properties(${check}_emulated PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(${check}_emulated akin_model akin_index cuda_emulated)
  endforeach()
  foreach(check ${device_checks})
    add_test(NAME ${check}.cuda.emulated COMMAND ${check}_emulated)
    set_tests_properties(${check}.cuda.emulated PROPERTIES TIMEOUT 300)
  endforeach()
  # Sanitizers leave time for one precision, and for no whole run.
  set(emulated_trains cuda-fp16)
  if(NOT AKIN_SANITIZE)
    list(APPEND emulated_trains cuda-fp32 cuda-bf16)
  endif()
  foreach(device cuda-fp32 cuda-fp16 cuda-bf16)
    add_test(NAME train_devicecheck.${device} COMMAND train_devicecheck ${device})
    set_tests_properties(train_devicecheck.${device} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 300)
  endforeach()
  foreach(device ${emulated_trains})
    add_test(NAME train_devicecheck.${device}.emulated COMMAND train_devicecheck_emulated
      ${device} --small)
    set_tests_properties(train_devicecheck.${device}.emulated PROPERTIES TIMEOUT 300)
  endforeach()
  if(TARGET akin_train AND NOT AKIN_SANITIZE)       # whole runs of training on it
    add_executable(train_truth_emulated unit/train_truth_test.c)
    target_compile_definitions(train_truth_emulated PRIVATE AKIN_CUDA_EMULATED
      AKIN_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    set_target_properties(train_truth_emulated PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(train_truth_emulated akin_train cuda_emulated PkgConfig::CMOCKA)
    add_test(NAME unit.train_truth_test.cuda.emulated COMMAND train_truth_emulated)
    set_tests_properties(unit.train_truth_test.cuda.emulated PROPERTIES TIMEOUT 300)
  endif()
endif()

if(TARGET cuda_emulated)        # whole requests on it
  add_executable(personal_emulated unit/recommend_personal_test.c)
  target_compile_definitions(personal_emulated PRIVATE AKIN_CUDA_EMULATED)
  set_target_properties(personal_emulated PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(personal_emulated akin_recommend cuda_emulated PkgConfig::CMOCKA)
  add_test(NAME unit.recommend_personal_test.cuda.emulated COMMAND personal_emulated)
  set_tests_properties(unit.recommend_personal_test.cuda.emulated PROPERTIES TIMEOUT 300)
  add_executable(personal_enginecheck personal_enginecheck.c)
  target_compile_definitions(personal_enginecheck PRIVATE
    AKIN_EMULATED_PLUGIN="$<TARGET_FILE:cuda_emulated_plugin>")
  add_dependencies(personal_enginecheck cuda_emulated_plugin)
  target_link_libraries(personal_enginecheck akin_engine PkgConfig::CMOCKA)
  add_test(NAME personal_enginecheck COMMAND personal_enginecheck)
  set_tests_properties(personal_enginecheck PROPERTIES TIMEOUT 300)
endif()

# Sanitizers add symbols and start-up code of their own.
if(NOT AKIN_SANITIZE)
  add_test(NAME isa_audit COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/isa_audit.sh $<TARGET_FILE:akin_base>
    $<TARGET_FILE:akin_compute>)
endif()
